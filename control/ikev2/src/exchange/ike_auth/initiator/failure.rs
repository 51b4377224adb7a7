//! How an initiation ends without an IKE SA.

/// Why the handshake ends.
pub(super) struct Failure {
    pub(super) why: String,
    /// The peer may believe that the IKE SA stands.
    pub(super) tell_peer: bool,
}

impl Failure {
    pub(super) fn silent(why: String) -> Self {
        Self { why, tell_peer: false }
    }

    pub(super) fn told(why: String) -> Self {
        Self { why, tell_peer: true }
    }
}
