//! Bodies of any length pass both ways, and cost no memory: a study of a gibibyte is stored over HTTP/1.1 and fetched over HTTP/2.
//! `STUDY_BYTES` makes it longer or shorter, up to 4294967294.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};

use gateway_tests::audit::{is, text};
use gateway_tests::{Clinic, DOCTOR};

/// Bytes of the study's pixels.
fn pixels() -> u32 {
    std::env::var("STUDY_BYTES").map_or(1 << 30, |bytes| bytes.parse().expect("an even number below 2^32"))
}

/// KiB by which the gateway may grow for all of it.
const MOST_GROWTH: u64 = 32 * 1024;

/// A data element of explicit VR, little endian.
fn element(group: u16, number: u16, vr: &str, value: &str) -> Vec<u8> {
    let mut value = value.as_bytes().to_vec();
    if value.len() % 2 == 1 {
        value.push(if vr == "UI" { 0 } else { b' ' });
    }
    let length = u16::try_from(value.len()).expect("short").to_le_bytes();
    [&group.to_le_bytes()[..], &number.to_le_bytes(), vr.as_bytes(), &length, &value].concat()
}

/// A DICOM file up to its pixels.
fn image() -> Vec<u8> {
    let meta = element(2, 0x10, "UI", "1.2.840.10008.1.2.1");
    let group = u32::try_from(meta.len()).expect("short").to_le_bytes();
    let mut file = [&[0; 128][..], b"DICM", &[2, 0, 0, 0], b"UL", &[4, 0], &group, &meta].concat();
    file.extend(element(8, 0x16, "UI", "1.2.840.10008.5.1.4.1.1.2"));
    file.extend(element(8, 0x18, "UI", "1.2.3.4.5"));
    file.extend(element(0x10, 0x20, "LO", "patient-4711"));
    file.extend(element(0x20, 0xd, "UI", "1.2.3.4"));
    file.extend(element(0x20, 0xe, "UI", "1.2.3.4.1"));
    file.extend([0xe0, 0x7f, 0x10, 0]);
    file.extend(b"OW\0\0");
    file.extend(pixels().to_le_bytes());
    file
}

/// A server that counts what it gets, and sends a gibibyte to whoever asks for it.
fn server() -> (SocketAddr, Receiver<u64>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let (counted, counts) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let counted = counted.clone();
            std::thread::spawn(move || {
                let mut buffer = vec![0; 256 * 1024];
                loop {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        if stream.read_exact(&mut buffer[..1]).is_err() {
                            return;
                        }
                        head.push(buffer[0]);
                    }
                    let head = String::from_utf8_lossy(&head).to_lowercase();
                    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                    let mut left: u64 = length.map_or(0, |length| length.parse().expect("a length"));
                    let all = left;
                    while left > 0 {
                        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                        match stream.read(&mut buffer[..most]) {
                            Ok(read @ 1..) => left -= read as u64,
                            Ok(0) | Err(_) => return,
                        }
                    }
                    let sent = if head.starts_with("post") { 0 } else { u64::from(pixels()) };
                    let kind = if sent > 0 { "application/octet-stream" } else { "application/dicom+json" };
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {sent}\r\n\r\n");
                    let mut sent_all = stream.write_all(answer.as_bytes()).is_ok();
                    buffer.fill(7);
                    let mut left = usize::try_from(sent).expect("64 bits");
                    while sent_all && left > 0 {
                        let part = left.min(buffer.len());
                        sent_all = stream.write_all(&buffer[..part]).is_ok();
                        left -= part;
                    }
                    if !sent_all || counted.send(all).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, counts)
}

#[test]
fn a_study_of_a_gibibyte_costs_no_memory() {
    let (address, counts) = server();
    let mut prepared = Clinic::builder().prepare();
    prepared.reconfigure(|config| {
        config.set_service("backends", vec![format!("http://{address}")]);
        config.set_limit("body_bytes", 5_i64 << 30);
        config.append(
            "[[route]]\nname = \"pacs\"\npath = \"/pacs\"\nservice = \"clinical\"\nclass = \"clinical\"\nkind = \"dicomweb\"\n",
        );
    });
    let clinic = prepared.start();
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/metadata?warm").status, 200);
    counts.recv().expect("the first");

    let path = clinic.prepared.path("study");
    let mut file = File::create(&path).expect("a file");
    file.write_all(b"--part\r\nContent-Type: application/dicom\r\n\r\n").expect("its head");
    file.write_all(&image()).expect("its image");
    // A hole: pixels are all the same.
    file.seek(SeekFrom::Current(i64::from(pixels()))).expect("its pixels");
    file.write_all(b"\r\n--part--\r\n").expect("its end");
    let length = file.metadata().expect("its length").len();

    let peak = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", clinic.gateway.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
    };
    let before = peak();
    let files = clinic.identity_files(DOCTOR);
    let [ca, certificate, key] = files.each_ref().map(|file| file.to_str().expect("an UTF-8 path"));
    let port = clinic.door.address.port();
    let curl = |options: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["-s", "-S", "-f", "--max-time", "600", "--cacert", ca, "--cert", certificate, "--key", key]);
        let output = command.args(options).output().expect("curl");
        assert!(output.status.success(), "curl {options:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let (study, store) = (path.display().to_string(), format!("https://localhost:{port}/pacs/studies"));
    let kind = "Content-Type: multipart/related; type=\"application/dicom\"; boundary=part";
    curl(&["--http1.1", "-X", "POST", "-H", kind, "-H", "Expect:", "-T", &study, &store]);
    assert_eq!(counts.recv().expect("the study"), length);
    println!("stored: peak {} KiB, {before} KiB before", peak());
    let told = curl(&["--http2", "-o", "/dev/null", "-w", "%{size_download}", &format!("{store}/1.2.3.4")]);
    assert_eq!(told, pixels().to_string());
    counts.recv().expect("the request");
    println!("fetched: peak {} KiB", peak());
    let grown = peak().saturating_sub(before);
    assert!(grown < MOST_GROWTH, "grown by {grown} KiB");

    // Whose it is, stood before a gibibyte of pixels.
    let patients =
        clinic.records().into_iter().filter(|record| record["patients"].to_string().contains("patient-4711"));
    let (told, recalled): (Vec<_>, Vec<_>) = patients.partition(|record| is(record, "addendum"));
    assert!(told.len() == 1 && !recalled.is_empty(), "{told:#?} {recalled:#?}");
    let ends =
        clinic.records().into_iter().filter(|record| is(record, "completion") && text(record, "end") == "complete");
    assert_eq!(ends.filter(|record| record["bytes"]["received"] == length).count(), 1);
}
