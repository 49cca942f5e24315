//! A5 on a real write-back error, and not on a call that only says so: the audit directory is an ext4 of its own on a
//! loop device, whose disk (nbdkit through nbdfuse) fails every write while a file says so. The kernel then reports the
//! error once or twice, drops the pages, and calls the next `fdatasync` of the same file a success: the first test
//! shows that it does, so that the second one proves something. Between two runs the disk is unmounted: what is
//! read again comes from the disk, and not from the memory of somebody who once believed it was written.
//!
//! Needs root, `/dev/fuse` and loop devices, as in a virtual machine or a privileged container; where they are missing
//! the tests fail and say so. The same promises with injected errors, anywhere: `audit_failures`.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use gateway_tests::audit::text;
use gateway_tests::{Clinic, DOCTOR, Prepared, until};
use tempfile::TempDir;

use crate::audit_tools::{Load, Log, ask, segments, small_log};

/// A disk whose writes fail on demand, with an ext4 on it.
struct Disk {
    folder: TempDir,
    server: Child,
}

impl Disk {
    fn new() -> Self {
        for device in ["/dev/fuse", "/dev/loop-control"] {
            assert!(Path::new(device).exists(), "this test needs `{device}`");
        }
        let folder = TempDir::with_prefix("sekisho-disk-").expect("a folder");
        let image = folder.path().join("mount/image");
        std::fs::create_dir(folder.path().join("mount")).expect("a folder");
        File::create(&image).expect("a file to mount on");
        let broken = format!("error-file={}", folder.path().join("broken").display());
        let server = Command::new("nbdfuse")
            .arg(&image)
            .args(["--socket-activation", "nbdkit", "--exit-with-parent", "--filter=error", "memory", "64M"])
            .args(["error-pwrite=EIO", "error-pwrite-rate=100%", &broken])
            .stdin(Stdio::null())
            .stderr(File::create(folder.path().join("said")).expect("a file"))
            .spawn()
            .expect("nbdfuse is installed");
        let disk = Self { folder, server };
        until("the disk", || std::fs::metadata(&image).is_ok_and(|file| file.len() == 64 << 20).then_some(()));
        // Without a journal: an error in that would make the whole file system read-only, which is another row (A7).
        let made = Command::new("mkfs.ext4").args(["-q", "-O", "^has_journal"]).arg(&image).status();
        assert!(made.expect("mkfs.ext4 is installed").success());
        disk
    }

    fn image(&self) -> String {
        self.folder.path().join("mount/image").to_str().expect("UTF-8").to_owned()
    }

    /// From here on every write fails.
    fn breaks(&self) {
        File::create(self.folder.path().join("broken")).expect("a file");
    }

    fn heals(&self) {
        std::fs::remove_file(self.folder.path().join("broken")).expect("it was there");
    }

    /// A command that runs another one with the disk mounted on a directory, in a mount namespace that ends with it,
    /// and the loop device with that.
    fn mounted_on(&self, directory: &Path) -> Vec<String> {
        let script = "mount -o loop \"$0\" \"$1\" && shift && exec \"$@\"";
        let parts = ["unshare", "-m", "--propagation", "private", "sh", "-c", script, &self.image()];
        parts.into_iter().map(str::to_owned).chain([directory.to_str().expect("UTF-8").to_owned()]).collect()
    }

    /// No loop device uses the disk any more: all that is going to be written is.
    fn is_released(&self) {
        let image = self.image();
        until("the disk to be unmounted", || {
            let used = Command::new("losetup").args(["--associated", &image]).output().expect("losetup runs");
            used.stdout.is_empty().then_some(())
        });
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.image()).stderr(Stdio::null()).status();
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn clinic_on(disk: &Disk, mut prepared: Prepared) -> Clinic {
    let wrapper = disk.mounted_on(&prepared.path("audit"));
    prepared.run_under(&wrapper.iter().map(String::as_str).collect::<Vec<_>>());
    prepared.start()
}

/// The audit directory as the gateway sees it.
fn inside(clinic: &Clinic) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root{}", clinic.gateway.pid(), clinic.prepared.path("audit").display()))
}

#[test]
fn a5_the_kernel_forgets_a_write_back_error() {
    let disk = Disk::new();
    let clinic = clinic_on(&disk, small_log().prepare());
    let mut options = File::options();
    let file = options.read(true).write(true).create_new(true).open(inside(&clinic).join("probe")).expect("a file");
    let block = [1; 4096];
    file.write_all_at(&block, 0).and_then(|()| file.sync_all()).expect("a disk that works");
    disk.breaks();
    file.write_all_at(&[2; 4096], 0).expect("a write goes to memory");
    let error = file.sync_data().expect_err("the disk fails");
    assert_eq!(error.raw_os_error(), Some(5), "{error}");
    // Which part of the file system keeps the error for a second call depends on the kernel; none keeps it for ever.
    let errors = (1..10).take_while(|_| file.sync_data().is_err()).count();
    println!("{errors} more errors");
    assert!(errors < 9, "a kernel that does not forget");
    // What was believed to be written is not: read past the page cache it is what it was before.
    disk.heals();
    let advice = rustix::fs::Advice::DontNeed;
    rustix::fs::fadvise(&file, 0, None, advice).expect("advice");
    let mut read = [0; 4096];
    file.read_exact_at(&mut read, 0).expect("a disk that works");
    assert_eq!(read, block, "the last sync lied");
}

#[test]
fn a5_a_disk_that_fails_shuts_the_door_and_loses_nothing() {
    let disk = Disk::new();
    let clinic = clinic_on(&disk, small_log().prepare());
    let directory = inside(&clinic);
    let load = Load::start(&clinic.handshake(DOCTOR), 4);
    std::thread::sleep(Duration::from_millis(300));
    let before = segments(&directory);
    disk.breaks();
    until("/readyz to say no", || (clinic.admin_get("/readyz").0 == 503).then_some(()));
    let page = clinic.admin_get("/readyz?verbose").1;
    assert!(page.contains("audit") && page.contains("nput/output error"), "{page}");
    for changes in [false, true] {
        assert_eq!(ask(&clinic, changes).label, "audit-unavailable");
    }
    // The kernel has forgotten the error by now, and the gateway has not.
    std::thread::sleep(Duration::from_millis(2_500));
    let changes = || clinic.backend().seen().iter().filter(|seen| seen.method() == "POST").count();
    let seen = changes();
    assert_eq!(ask(&clinic, true).label, "audit-unavailable");
    assert_eq!(changes(), seen, "something was changed without a record");
    disk.heals();
    until("/readyz to say yes", || (clinic.admin_get("/readyz").0 == 200).then_some(()));
    std::thread::sleep(Duration::from_millis(300));
    let mut answers = load.stop();
    assert!(answers.iter().all(|answer| answer.status == 200 || answer.is_about_the_log()), "{answers:?}");
    for changes in [false, true] {
        answers.push(ask(&clinic, changes));
        assert_eq!(answers.last().map(|answer| answer.status), Some(200), "{answers:?}");
    }
    let log = Log::read(&directory);
    log.holds(&answers);
    let failure = log.events("audit-failure")[0];
    assert_eq!(failure["errno"], 5, "{failure}");
    assert_eq!(text(failure, "segment"), before.last().expect("a segment"), "{failure}");
    assert!(segments(&directory).len() > before.len(), "the file whose sync failed is not used again");

    // Killed and unmounted; what the next start finds was on the disk.
    let mut clinic = clinic;
    clinic.kill();
    let prepared = clinic.stop();
    disk.is_released();
    let clinic = clinic_on(&disk, prepared);
    let log = Log::read(&inside(&clinic));
    log.holds(&answers);
    assert_eq!(log.count("recovery"), 1, "{:?}", log.kinds);
    println!("{} answers, {} records, {:?}", answers.len(), log.sequence, log.kinds);
    assert_eq!(ask(&clinic, true).status, 200);
}
