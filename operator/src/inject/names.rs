//! What injection is called by: labels, annotations, names and places. Contracts, all of them: people write some, and
//! tools look for the others.

/// The label of a pod that is to have a sidecar; its value is the name of the ConsumerGroup in the pod's namespace.
pub const GROUP_LABEL: &str = "sluice.dev/consumer-group";
/// `"false"`: no sidecar, although the label is there (it is written by hand under another name, or not wanted).
pub const INJECT: &str = "sluice.dev/inject";
/// What the sidecar asks for of CPU, in place of the settings; in a Guaranteed pod its limit too.
pub const SIDECAR_CPU: &str = "sluice.dev/sidecar-cpu";
/// What the sidecar asks for of memory, and its limit, in place of the settings.
pub const SIDECAR_MEMORY: &str = "sluice.dev/sidecar-memory";
/// The port on which the sidecar serves health, metrics and status, in place of the settings.
pub const SIDECAR_ADMIN_PORT: &str = "sluice.dev/sidecar-admin-port";
/// Written by injection: the certificates that the sidecar trusts the broker by, PEM. The downward API shows them to it as
/// a file, so no object is needed in the pod's namespace and no right to read one.
pub const BROKER_CA: &str = "sluice.dev/broker-ca";

/// The sidecar's container.
pub const CONTAINER: &str = "sluice";
/// The port of [`SIDECAR_ADMIN_PORT`], for what scrapes by name.
pub const ADMIN_PORT: &str = "sluice-admin";
/// In the application's containers: where they connect.
pub const ADDRESS_VARIABLE: &str = "SLUICE_ADDR";
/// The audience of the token that the sidecar shows to the broker.
pub const AUDIENCE: &str = "sluice.dev";

/// The folder of the socket, in the sidecar always, in the application's containers unless something else is there.
pub(super) const SOCKET_FOLDER: &str = "/run/sluice";
/// The socket's name in its folder.
pub(super) const SOCKET: &str = "sluice.sock";
/// Where the sidecar finds its token and the broker's certificates.
pub(super) const IDENTITY_FOLDER: &str = "/var/run/secrets/sluice.dev";
/// The token's file in that folder.
pub(super) const TOKEN_FILE: &str = "token";
/// The certificates' file in that folder.
pub(super) const CA_FILE: &str = "ca.pem";
/// Where Kubernetes mounts a token of the pod's own account into every container that has nothing there.
pub(super) const ACCOUNT_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The volume of the socket.
pub(super) const SOCKET_VOLUME: &str = "sluice-socket";
/// The volume of token and certificates.
pub(super) const IDENTITY_VOLUME: &str = "sluice-identity";

/// `wanted`, or the first of `wanted-2`, `wanted-3`, … that is not taken.
pub(super) fn free(wanted: &str, taken: impl Fn(&str) -> bool) -> String {
    let numbered = (2_u32..).map(|number| format!("{wanted}-{number}"));
    std::iter::once(wanted.to_owned()).chain(numbered).find(|name| !taken(name)).unwrap_or_default()
}

/// Whether a ConsumerGroup can have this name: an RFC 1123 subdomain (a label's value has at most 63 characters anyway).
pub(super) fn is_group_name(name: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    name.split('.').all(|part| {
        let (Some(first), Some(last)) = (part.bytes().next(), part.bytes().last()) else { return false };
        part.bytes().all(inner) && first != b'-' && last != b'-'
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_taken_gets_a_number() {
        let taken = ["a", "a-2"];
        assert_eq!(free("a", |name| taken.contains(&name)), "a-3");
        assert_eq!(free("b", |name| taken.contains(&name)), "b");
    }

    #[test]
    fn names_are_those_that_kubernetes_allows_for_objects() {
        for good in ["a", "telemetry", "a-1.b", "0"] {
            assert!(is_group_name(good), "{good}");
        }
        for bad in ["", "A", "a_b", "-a", "a-", "a..b", ".a", "a b", "ä"] {
            assert!(!is_group_name(bad), "{bad}");
        }
    }
}
