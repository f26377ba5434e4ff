//! `--handover` and `--after-handover`: where processes on one node meet, and what becomes of the old one.

use std::net::SocketAddr;

/// Bytes of a rendezvous's name. An abstract socket's is 107 at most, with what goes before it.
const NAME_BYTES: usize = 64;

/// How this process takes over from another one, and hands over to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handover {
    /// Where they meet; `None`: nowhere.
    pub name: Option<String>,
    /// Where one is met that stands by, and serves, since there was nobody. Of the admin address alone: by that it tells whether somebody is there.
    pub standby: Option<String>,
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

/// Of which other processes a process of the cluster is a new version, or will be the old one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Installation<'a> {
    /// Those of the same namespace and Lease: one installation has one of each. A second one on the same port isn't its next version, and is refused.
    Pods { namespace: &'a str, lease: &'a str },
    /// Those with the same admin address, which a machine has once.
    Processes,
    /// None, by themselves: it serves manifests, and who starts a second one on the same port by mistake shall hear of it.
    Single,
}

impl Handover {
    /// `choice` is `auto`, `on`, `off` or a name. `waits` decides where `after` doesn't.
    pub(super) fn new(
        choice: &str,
        after: Option<AfterHandover>,
        installation: Installation<'_>,
        waits: bool,
        admin: SocketAddr,
    ) -> Result<Self, String> {
        let by_itself = match installation {
            // A slash is in no name that somebody chooses.
            Installation::Pods { namespace, lease } => Some(format!("{namespace}/{lease}")),
            Installation::Processes | Installation::Single => (admin.port() != 0).then(|| admin.to_string()),
        };
        let name = match (choice, installation) {
            ("off", _) | ("auto", Installation::Single) => None,
            // Whatever the kernel chooses is nobody else's: such processes are strangers beside each other, whoever they are for the cluster.
            ("auto", _) if admin.port() == 0 => None,
            ("auto", Installation::Processes) => by_itself,
            ("auto" | "on", Installation::Pods { .. }) if by_itself.as_ref().is_some_and(|name| name.len() > NAME_BYTES) => {
                return Err(format!("namespace and Lease have more than {NAME_BYTES} bytes together: say a name of your own"));
            }
            ("auto", Installation::Pods { .. }) => by_itself,
            ("on", _) => Some(by_itself.ok_or("with port 0 for --admin it needs a name")?),
            (name, _) if is_name(name) => Some(name.to_owned()),
            _ => return Err(format!("expected auto, on, off, or a name of up to {NAME_BYTES} letters, digits, and -._:[]")),
        };
        let after = after.unwrap_or(if waits { AfterHandover::Wait } else { AfterHandover::Exit });
        Ok(Self { standby: name.as_ref().and_then(|_| standby(admin)), name, after })
    }

    /// Of a process that stands by itself: others meet it where they look for such a one.
    pub(super) fn standing_by(self) -> Self {
        let Self { name: _, standby, after } = self;
        Self { name: standby, standby: None, after }
    }
}

/// Whatever the kernel chooses is nobody else's.
fn standby(admin: SocketAddr) -> Option<String> {
    (admin.port() != 0).then(|| format!("standby/{admin}"))
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
        const POD: Installation<'_> = Installation::Pods { namespace: "edge", lease: "nodegate" };
        const LONG: Installation<'_> =
            Installation::Pods { namespace: "a-namespace-whose-name-has-the-length-that-the-api-server-allows", lease: "nodegate" };
        let name = |choice: &str, installation, admin: &str| {
            Handover::new(choice, None, installation, false, admin.parse().unwrap()).map(|all| all.name)
        };
        for (choice, installation, admin, expected) in [
            ("auto", POD, "127.0.0.1:9080", Ok(Some("edge/nodegate"))),
            ("auto", POD, "127.0.0.1:9081", Ok(Some("edge/nodegate"))),
            ("auto", POD, "127.0.0.1:0", Ok(None)),
            ("on", POD, "127.0.0.1:9081", Ok(Some("edge/nodegate"))),
            ("mine", POD, "127.0.0.1:9080", Ok(Some("mine"))),
            ("off", POD, "127.0.0.1:9080", Ok(None)),
            ("auto", LONG, "127.0.0.1:9080", Err(())),
            ("mine", LONG, "127.0.0.1:9080", Ok(Some("mine"))),
            ("auto", Installation::Processes, "127.0.0.1:9080", Ok(Some("127.0.0.1:9080"))),
            ("auto", Installation::Processes, "[::1]:9080", Ok(Some("[::1]:9080"))),
            ("auto", Installation::Processes, "127.0.0.1:0", Ok(None)),
            ("auto", Installation::Single, "127.0.0.1:9080", Ok(None)),
            ("off", Installation::Processes, "127.0.0.1:9080", Ok(None)),
            ("on", Installation::Single, "127.0.0.1:9080", Ok(Some("127.0.0.1:9080"))),
            ("on", Installation::Processes, "127.0.0.1:0", Err(())),
            ("edge", Installation::Single, "127.0.0.1:0", Ok(Some("edge"))),
            ("", Installation::Processes, "127.0.0.1:9080", Err(())),
            ("edge/nodegate", Installation::Single, "127.0.0.1:9080", Err(())),
            ("0123456789012345678901234567890123456789012345678901234567890123x", POD, "127.0.0.1:9080", Err(())),
        ] {
            let expected = expected.map(|name| name.map(str::to_owned));
            assert_eq!(name(choice, installation, admin).map_err(drop), expected, "{choice} {installation:?} {admin}");
        }
    }

    #[test]
    fn whoever_hands_over_looks_for_who_stands_by_at_its_admin_address() {
        let pods = Installation::Pods { namespace: "edge", lease: "nodegate" };
        let of = |choice, admin: &str| Handover::new(choice, None, pods, false, admin.parse().unwrap()).unwrap();
        let expected = Some("standby/127.0.0.1:9080".to_owned());
        assert_eq!(of("auto", "127.0.0.1:9080").standby, expected);
        assert_eq!((of("off", "127.0.0.1:9080").standby, of("mine", "127.0.0.1:0").standby), (None, None));
        let ours = of("auto", "127.0.0.1:9080").standing_by();
        assert_eq!((ours.name, ours.standby), (expected, None));
    }

    #[test]
    fn a_pods_process_stands_by_and_any_other_ends() {
        let after = |given, waits| Handover::new("off", given, Installation::Processes, waits, ([127, 0, 0, 1], 0).into()).unwrap().after;
        assert_eq!((after(None, true), after(None, false)), (AfterHandover::Wait, AfterHandover::Exit));
        assert_eq!(after(Some(AfterHandover::Exit), true), AfterHandover::Exit);
    }
}
