//! `--handover` and `--after-handover`: where processes on one node meet, and what becomes of the old one.

use std::net::SocketAddr;

/// Bytes of a rendezvous's name. An abstract socket's is 107 at most, with what goes before it.
const NAME_BYTES: usize = 64;

/// How this process takes over from another one, and hands over to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handover {
    /// Where they meet; `None`: nowhere.
    pub name: Option<String>,
    /// What this one does once another has taken over.
    pub after: AfterHandover,
}

/// `--after-handover`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum AfterHandover {
    /// Stand by until a signal, able to take back: a kubelet would start a pod's process again that ends by itself, and that would take over in turn.
    Wait,
    /// Drain and end.
    Exit,
}

impl Handover {
    /// `choice` is `auto`, `on`, `off` or a name. By itself a process of the cluster meets others that have the same admin address, which a node has once;
    /// one that serves manifests meets none: who starts a second one on the same port by mistake shall hear of it. `in_pod` decides where `after` doesn't.
    pub(super) fn new(choice: &str, after: Option<AfterHandover>, cluster: bool, in_pod: bool, admin: SocketAddr) -> Result<Self, String> {
        let by_admin = (admin.port() != 0).then(|| admin.to_string());
        let name = match choice {
            "off" => None,
            "auto" if cluster => by_admin,
            "auto" => None,
            "on" => Some(by_admin.ok_or("with port 0 for --admin it needs a name")?),
            name if is_name(name) => Some(name.to_owned()),
            _ => return Err(format!("expected auto, on, off, or a name of up to {NAME_BYTES} letters, digits, and -._:[]")),
        };
        let after = after.unwrap_or(if in_pod { AfterHandover::Wait } else { AfterHandover::Exit });
        Ok(Self { name, after })
    }
}

fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    (1..=NAME_BYTES).contains(&text.len()) && text.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unrelated_processes_do_not_meet() {
        let name =
            |choice: &str, cluster, admin: &str| Handover::new(choice, None, cluster, false, admin.parse().unwrap()).map(|all| all.name);
        for (choice, cluster, admin, expected) in [
            ("auto", true, "127.0.0.1:9080", Ok(Some("127.0.0.1:9080"))),
            ("auto", true, "[::1]:9080", Ok(Some("[::1]:9080"))),
            ("auto", true, "127.0.0.1:0", Ok(None)),
            ("auto", false, "127.0.0.1:9080", Ok(None)),
            ("off", true, "127.0.0.1:9080", Ok(None)),
            ("on", false, "127.0.0.1:9080", Ok(Some("127.0.0.1:9080"))),
            ("on", true, "127.0.0.1:0", Err(())),
            ("edge", false, "127.0.0.1:0", Ok(Some("edge"))),
            ("", true, "127.0.0.1:9080", Err(())),
            ("a/b", true, "127.0.0.1:9080", Err(())),
            ("0123456789012345678901234567890123456789012345678901234567890123x", true, "127.0.0.1:9080", Err(())),
        ] {
            let expected = expected.map(|name| name.map(str::to_owned));
            assert_eq!(name(choice, cluster, admin).map_err(drop), expected, "{choice} {admin}");
        }
    }

    #[test]
    fn a_pods_process_stands_by_and_any_other_ends() {
        let after = |given, in_pod| Handover::new("off", given, true, in_pod, ([127, 0, 0, 1], 0).into()).unwrap().after;
        assert_eq!((after(None, true), after(None, false)), (AfterHandover::Wait, AfterHandover::Exit));
        assert_eq!(after(Some(AfterHandover::Exit), true), AfterHandover::Exit);
    }
}
