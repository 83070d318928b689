//! The user that jobs run as, looked up in the local files. Other sources of users are not asked:
//! that would need the system's C library at run time.

use std::fs;
use std::io;
use std::path::Path;

/// A user of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    /// All groups, the main one included.
    pub groups: Vec<u32>,
    pub home: String,
    pub shell: String,
}

#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    #[error("there is no user `{0}` in /etc/passwd")]
    Unknown(String),
    #[error("cannot read {0}: {1}")]
    Unreadable(&'static str, io::Error),
}

/// Finds a user by name, or by number where there is no such name.
pub fn account(user: &str) -> Result<Account, AccountError> {
    let passwd = read("/etc/passwd")?;
    let group = read("/etc/group")?;
    find(user, &passwd, &group).ok_or_else(|| AccountError::Unknown(user.to_owned()))
}

fn read(path: &'static str) -> Result<String, AccountError> {
    let bytes = fs::read(Path::new(path)).map_err(|error| AccountError::Unreadable(path, error))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn find(user: &str, passwd: &str, group: &str) -> Option<Account> {
    let rows = || passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let row = rows()
        .find(|row| row.first() == Some(&user))
        .or_else(|| rows().find(|row| row.get(2) == Some(&user)))?;
    let [name, _, uid, gid, _, home, shell] = row[..] else { return None };
    let gid: u32 = gid.parse().ok()?;
    let mut groups = vec![gid];
    for line in group.lines() {
        let row: Vec<_> = line.split(':').collect();
        let [_, _, id, members] = row[..] else { continue };
        let Ok(id) = id.parse() else { continue };
        if members.split(',').any(|member| member == name) && !groups.contains(&id) {
            groups.push(id);
        }
    }
    let shell = if shell.is_empty() { "/bin/sh" } else { shell };
    Some(Account {
        name: name.to_owned(),
        uid: uid.parse().ok()?,
        gid,
        groups,
        home: home.to_owned(),
        shell: shell.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nbroken\nci:x:998:997:CI:/home/ci:\n";
    const GROUP: &str = "root:x:0:\nci:x:997:\ndocker:x:111:bob,ci\nkvm:x:112:cid\n";

    #[test]
    fn a_user_is_found_by_name_or_number_with_all_groups() {
        let ci = find("ci", PASSWD, GROUP).expect("ci is there");
        assert_eq!((ci.uid, ci.gid, &ci.groups[..]), (998, 997, &[997, 111][..]));
        assert_eq!((ci.home.as_str(), ci.shell.as_str()), ("/home/ci", "/bin/sh"));
        assert_eq!(find("998", PASSWD, GROUP), Some(ci));
        assert_eq!(find("broken", PASSWD, GROUP), None);
    }

    #[test]
    fn an_unknown_user_is_named() {
        let error = account("no-such-user-here").expect_err("no such user");
        assert_eq!(error.to_string(), "there is no user `no-such-user-here` in /etc/passwd");
    }
}
