//! Which key of swanctl.conf is what: how its value is written in TOML, or why it is left out.

/// How a value goes over.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// `yes` and `no` in all their spellings.
    Flag,
    /// A number; what is none goes over as text and is refused there.
    Number,
    /// As it is.
    Text,
    /// Split at commas.
    List,
    /// Traffic selectors, split at commas.
    Selectors,
    /// `yes` and `no`, for which we have other words.
    CopyDf,
    /// A replay window, which has a least size here.
    ReplayWindow,
    /// A version, of which 0 means "any".
    Version,
    /// Left out with a note, unless switched off.
    Note(&'static str),
}

use Kind::{CopyDf, Flag, List, Note, Number, ReplayWindow, Selectors, Text, Version};

/// Keys of one kind of section. A key that is not here goes over as text: the configuration
/// says what it thinks of it.
pub(crate) type Keys = &'static [(&'static str, Kind)];

pub(crate) const CONNECTION: Keys = &[
    ("version", Version),
    ("local_addrs", List),
    ("remote_addrs", List),
    ("local_port", Number),
    ("remote_port", Number),
    ("proposals", List),
    ("vips", List),
    ("aggressive", Flag),
    ("pull", Flag),
    ("dscp", Note("IKE messages are sent with DSCP 0")),
    ("encap", Flag),
    ("mobike", Flag),
    ("dpd_delay", Text),
    ("dpd_timeout", Text),
    ("fragmentation", Text),
    ("childless", Text),
    ("send_certreq", Flag),
    ("send_cert", Text),
    ("ppk_id", Text),
    ("ppk_required", Flag),
    ("keyingtries", Number),
    ("unique", Text),
    ("reauth_time", Text),
    ("rekey_time", Text),
    ("over_time", Text),
    ("rand_time", Text),
    ("pools", List),
    ("mediation", Flag),
    ("ocsp", Note("nothing is fetched")),
];

pub(crate) const ROUND: Keys = &[
    ("round", Number),
    ("certs", List),
    ("pubkeys", List),
    ("cacerts", List),
    ("auth", Text),
    ("id", Text),
    ("eap_id", Text),
    ("aaa_id", Text),
    ("xauth_id", Text),
    ("groups", List),
    ("cert_policy", List),
    ("revocation", Text),
];

pub(crate) const CERTIFICATE: Keys = &[("file", Text)];

pub(crate) const CHILD: Keys = &[
    ("esp_proposals", List),
    ("ah_proposals", List),
    ("sha256_96", Flag),
    ("local_ts", Selectors),
    ("remote_ts", Selectors),
    ("rekey_time", Text),
    ("life_time", Text),
    ("rand_time", Text),
    ("rekey_bytes", Text),
    ("life_bytes", Text),
    ("rand_bytes", Text),
    ("rekey_packets", Text),
    ("life_packets", Text),
    ("rand_packets", Text),
    ("updown", Note("no scripts are run")),
    ("hostaccess", Flag),
    ("mode", Text),
    ("policies", Flag),
    ("policies_fwd_out", Note("there are no kernel policies")),
    ("dpd_action", Text),
    ("ipcomp", Note("packets are not compressed")),
    ("inactivity", Text),
    ("reqid", Note("there are no kernel policies")),
    ("priority", Number),
    ("interface", Text),
    ("tfc_padding", Number),
    ("replay_window", ReplayWindow),
    ("hw_offload", Note("ESP is done on the processor's cores")),
    ("per_cpu_sas", Note("one SA serves all traffic of a child")),
    ("copy_df", CopyDf),
    ("copy_ecn", Flag),
    ("copy_dscp", Text),
    ("start_action", Text),
    ("close_action", Text),
];

/// What of a child makes sense where nothing is protected.
pub(crate) const SHUNT: [&str; 4] = ["mode", "local_ts", "remote_ts", "priority"];

pub(crate) const SECRET: Keys = &[("secret", Text), ("file", Text)];

pub(crate) const POOL: Keys = &[
    ("addrs", Text),
    ("dns", List),
    ("nbns", List),
    ("dhcp", List),
    ("netmask", List),
    ("server", List),
    ("subnet", List),
    ("split_include", List),
    ("split_exclude", List),
];

pub(crate) const AUTHORITY: Keys = &[
    ("cacert", Text),
    ("file", Text),
    ("crl_uris", List),
    ("ocsp_uris", List),
    ("cert_uri_base", Text),
];
