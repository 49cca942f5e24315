//! Who runs the command: the actor that the journal and the audit log name.

use std::fs;
use std::path::Path;

/// No login session, as the kernel writes it.
const NO_LOGIN: u32 = u32::MAX;

/// The user of the operating system who runs this process: the name of the real user id, or `uid:N` where
/// `/etc/passwd` has none.
///
/// Where the user logged in as somebody else and took this identity later (`sudo`, `su`), the kernel's login id says
/// so, and the answer is such as `root (login alice)`. `SUDO_USER` is not asked: whoever starts a process writes its
/// environment.
#[must_use]
pub fn operating_system_user() -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let login = login_id(Path::new("/proc/self/loginuid"));
    describe(rustix::process::getuid().as_raw(), login, &passwd)
}

fn login_id(file: &Path) -> Option<u32> {
    fs::read_to_string(file).ok()?.trim().parse().ok().filter(|id| *id != NO_LOGIN)
}

fn describe(real: u32, login: Option<u32>, passwd: &str) -> String {
    match login {
        Some(login) if login != real => format!("{} (login {})", name_of(real, passwd), name_of(login, passwd)),
        _ => name_of(real, passwd),
    }
}

/// The first name with this id, where it is one that a terminal and a log can take as it is.
fn name_of(id: u32, passwd: &str) -> String {
    let entries = passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        Some((fields.next()?, fields.nth(1)?.parse::<u32>().ok()?))
    });
    let mut names = entries.filter(|(_, found)| *found == id).map(|(name, _)| name);
    match names.next() {
        Some(name) if !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_graphic()) => {
            name.to_owned()
        }
        _ => format!("uid:{id}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nbroken\n:x:7:7::/:\nbad\u{1b}:x:8:8::/:\nalice:x:1000:1000::/:\n";

    #[test]
    fn the_actor_is_the_real_user_and_the_login_where_they_differ() {
        assert_eq!(describe(1000, Some(1000), PASSWD), "alice");
        assert_eq!(describe(1000, None, PASSWD), "alice");
        assert_eq!(describe(0, Some(1000), PASSWD), "root (login alice)");
        assert_eq!(describe(4242, None, PASSWD), "uid:4242");
        assert_eq!(describe(7, Some(8), PASSWD), "uid:7 (login uid:8)");
    }

    #[test]
    fn somebody_runs_this_test() {
        assert!(!operating_system_user().is_empty());
    }
}
