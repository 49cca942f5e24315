use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::quickstart::cast;

const FREE: Asked = Asked { listen: Some(SocketAddr::new(LOOPBACK, 0)), admin: Some(SocketAddr::new(LOOPBACK, 0)) };

/// Every file with its content.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(content(&path));
        } else {
            all.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    all
}

#[test]
fn an_empty_folder_becomes_a_quickstart_with_all_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let layout = prepare(dir.path(), FREE).unwrap();
    assert!(layout.is_new());
    assert_eq!(layout.addresses(), configuration::addresses(dir.path()).unwrap());
    let clients = cast::SITES.iter().flat_map(|site| site.devices.iter().map(|device| (site.name, device.name)));
    for (site, device) in clients.chain([cast::UNREGISTERED, cast::STRANGER]) {
        let files = layout.client(site, device);
        assert!(files.certificate.is_file(), "{files:?}");
        assert_eq!(fs::metadata(&files.key).unwrap().permissions().mode() & 0o777, 0o600, "{files:?}");
    }
    assert_eq!(fs::metadata(dir.path().join("ca/issuing.key")).unwrap().permissions().mode() & 0o777, 0o600);
    for file in ["ca.crt", "policy/roles.cedar", "policy/limits.cedar", "sekisho.toml", "state/sekisho.db"] {
        assert!(dir.path().join(file).is_file(), "{file}");
    }
    let entries: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(entries.iter().all(|e| e == MARKER || ENTRIES.contains(&e.to_str().unwrap())), "{entries:?}");
}

#[test]
fn the_configuration_passes_the_check_of_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let layout = prepare(dir.path(), FREE).unwrap();
    let config = crate::config::Config::load(&layout.configuration()).unwrap();
    let problems = crate::cli::check::check_deep(&config);
    assert!(problems.is_empty(), "{problems:?}");
    let [clinics, tunnels] = &*config.listeners else { panic!("{:?}", config.listeners) };
    assert_eq!(clinics.address, layout.addresses().listen);
    assert_eq!(Some(tunnels.address), layout.addresses().tunnels);
}

/// Goes on with a folder whose ports were free a moment ago: another test's connection may hold one meanwhile.
fn prepare_again(dir: &Path, asked: Asked) -> Layout {
    for _ in 0..100 {
        match prepare(dir, asked) {
            Err(QuickstartError::Busy { .. }) => std::thread::sleep(std::time::Duration::from_millis(100)),
            prepared => return prepared.unwrap(),
        }
    }
    panic!("a port of `{}` stayed busy", dir.display());
}

#[test]
fn a_second_start_changes_no_byte() {
    let dir = tempfile::tempdir().unwrap();
    let first = prepare(dir.path(), FREE).unwrap().addresses();
    let before = content(dir.path());
    fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    let second = prepare_again(dir.path(), FREE);
    assert!(!second.is_new());
    assert_eq!(second.addresses(), first);
    fs::remove_file(dir.path().join("notes.txt")).unwrap();
    assert!(content(dir.path()) == before);
}

#[test]
fn a_folder_with_anything_else_in_it_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.tex"), "ten years").unwrap();
    let error = prepare(dir.path(), FREE).unwrap_err();
    assert!(matches!(error, QuickstartError::Foreign { .. }), "{error}");
    assert!(error.to_string().contains("thesis.tex"), "{error}");
    assert_eq!(content(dir.path()).len(), 1);
}

#[test]
fn a_half_made_folder_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    for half in ["", "mak", MAKING] {
        fs::write(dir.path().join(MARKER), half).unwrap();
        fs::create_dir_all(dir.path().join("clients/sakura-clinic")).unwrap();
        fs::write(dir.path().join("sekisho.toml"), "[node").unwrap();
        let layout = prepare(dir.path(), FREE).unwrap();
        assert!(layout.is_new());
        assert!(configuration::addresses(dir.path()).is_ok());
    }
    fs::write(dir.path().join(MARKER), MAKING).unwrap();
    fs::write(dir.path().join("thesis.tex"), "ten years").unwrap();
    let error = prepare(dir.path(), FREE).unwrap_err();
    assert!(matches!(error, QuickstartError::Foreign { .. }), "{error}");
    assert!(dir.path().join("sekisho.toml").is_file());
}

#[test]
fn two_at_once_are_one_too_many() {
    let dir = tempfile::tempdir().unwrap();
    let first = prepare(dir.path(), FREE).unwrap();
    let error = prepare(dir.path(), FREE).unwrap_err();
    assert!(matches!(error, QuickstartError::InUse(_)), "{error}");
    drop(first);
    prepare_again(dir.path(), FREE);
}

#[test]
fn a_taken_address_is_named_with_what_sets_it_and_nothing_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = prepare(dir.path(), Asked { admin: Some(address), ..FREE }).unwrap_err();
    assert_eq!(error.to_string(), format!("`{address}` is in use: name another with `--admin`"));
    assert!(!dir.path().join("sekisho.toml").exists());

    let made = prepare(dir.path(), FREE).unwrap().addresses();
    let _taken = TcpListener::bind(made.listen).unwrap();
    let error = prepare(dir.path(), FREE).unwrap_err().to_string();
    assert!(error.contains(&made.listen.to_string()) && error.contains("`listener.address` in `"), "{error}");
}

#[test]
fn a_flag_that_contradicts_the_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let made = prepare(dir.path(), FREE).unwrap().addresses();
    let same = Asked { listen: Some(made.listen), admin: None };
    prepare_again(dir.path(), same);
    let other = Asked { listen: Some("127.0.0.1:1".parse().unwrap()), admin: None };
    let error = prepare(dir.path(), other).unwrap_err().to_string();
    assert!(error.contains("127.0.0.1:1") && error.contains("--listen"), "{error}");
}

#[test]
fn the_commands_name_files_that_exist() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("it's here");
    let layout = prepare(&dir, FREE).unwrap();
    let text = crate::quickstart::show::Welcome { layout: &layout, program: Path::new("sekisho") }.to_string();
    let mut files = 0;
    for flag in ["--cacert ", "--cert ", "--key "] {
        for rest in text.split(flag).skip(1) {
            // As a shell reads one quoted word: 'it'\''s here'.
            let line = rest.lines().next().unwrap().trim_end_matches(" \\");
            let path = line.strip_prefix('\'').unwrap().strip_suffix('\'').unwrap().replace(r"'\''", "'");
            assert!(Path::new(&path).is_file(), "{flag}{line}");
            files += 1;
        }
    }
    assert!(files >= 15, "{text}");
    assert!(!text.contains("PRIVATE"), "{text}");
    let prefix = dir.display().to_string().chars().count();
    let fits = |line: &str| line.chars().count() <= 100 + if line.contains("it'") { prefix } else { 0 };
    assert!(text.lines().all(fits), "{text}");
}
