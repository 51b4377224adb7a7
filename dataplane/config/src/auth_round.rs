//! `[connections.NAME.local…]` and `[connections.NAME.remote…]`: how one side authenticates.
//!
//! Any section whose name begins with `local` or `remote` is a round; rounds run in the order
//! of their `round`, then of the file (RFC 4739). What `auth` and `id` mean in full is for who
//! verifies them: here only what can never be right is refused.

use crate::error::{ConfigError, Place};
use crate::ike_connection::refuse_unsupported;
use crate::instance::choice_or;
use crate::reader::{Item, Section};
use std::path::{Path, PathBuf};

/// `revocation`: what is asked of revocation information.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// Fails without it.
    Strict,
    /// Fails if the certificate says where it would be and it is not to be had.
    IfUri,
    /// Fails only for what is known to be revoked.
    Relaxed,
}

/// One round of authentication of one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthRound {
    /// Name of the section.
    pub name: String,
    /// Order among the rounds.
    pub round: u32,
    /// `psk`, `pubkey`, `eap-mschapv2`, `ike:rsa/pss-sha384` and so on, in swanctl's notation.
    pub auth: String,
    /// IKE identity, in swanctl's notation; `None` and `%any` are the certificate's subject or
    /// the address on our side, anybody on the peer's.
    pub id: Option<String>,
    /// EAP identity; `%any` asks the client.
    pub eap_id: Option<String>,
    /// Certificate files: ours to choose from, or the peer's that alone are accepted.
    pub certs: Vec<PathBuf>,
    /// Raw public key files, likewise.
    pub pubkeys: Vec<PathBuf>,
    /// CA certificate files that the peer's chain must end in; empty is any trusted one.
    pub cacerts: Vec<PathBuf>,
    /// Revocation policy.
    pub revocation: Revocation,
    /// Where it begins.
    pub place: Place,
}

const AUTH: &str = "psk, pubkey, rsa, ecdsa, ed25519 (each with -KEYSIZE and -HASH behind it), \
    ike:…, eap, eap-mschapv2, eap-tls and the like";

const UNSUPPORTED: &[(&str, &str)] = &[
    ("aaa_id", "there is no AAA back-end"),
    ("xauth_id", "XAuth is IKEv1's"),
    ("groups", "there is no group membership"),
    ("cert_policy", "certificate policies are not checked"),
    ("ca_id", "name the CA certificate in cacerts"),
];

fn check_auth(item: &Item<'_>) -> Result<String, ConfigError> {
    const KNOWN: [&str; 8] = ["psk", "pubkey", "rsa", "ecdsa", "ed25519", "ed448", "eap", "any"];
    let text = item.text()?;
    let word = text.strip_prefix("ike:").unwrap_or(text);
    let word = word.split(['-', '/', ':']).next().unwrap_or_default();
    if word == "xauth" {
        return Err(item.error("is not supported: XAuth is IKEv1's", AUTH));
    }
    if !KNOWN.contains(&word) {
        return Err(item.error(format!("unknown value {text:?}"), AUTH));
    }
    Ok(text.to_owned())
}

/// Files of a list, relative to a folder of the credentials directory.
fn files(
    section: &Section<'_>,
    key: &'static str,
    folder: &Path,
) -> Result<Vec<PathBuf>, ConfigError> {
    let Some(item) = section.find(key) else { return Ok(Vec::new()) };
    let items = item.one_or_more("a file or a list of files")?;
    items.iter().map(|item| Ok(folder.join(item.path()?))).collect()
}

/// `cert…` sections: a certificate by file; those on tokens cannot be had.
fn certificate_sections(
    section: &Section<'_>,
    prefix: &'static str,
    folder: &Path,
    files: &mut Vec<PathBuf>,
) -> Result<(), ConfigError> {
    for (_, item) in section.sections_with_prefix(prefix) {
        let inner = item.section()?;
        let file = inner.require("file")?;
        files.push(folder.join(file.path()?));
        refuse_unsupported(
            &inner,
            &[
                ("handle", "there are no tokens"),
                ("slot", "there are no tokens"),
                ("module", "there are no tokens"),
            ],
        )?;
        inner.finish()?;
    }
    Ok(())
}

fn read_round(name: &str, item: &Item<'_>, directory: &Path) -> Result<AuthRound, ConfigError> {
    let section = item.section()?;
    let text = |key| section.find(key).map(|item| item.text().map(str::to_owned)).transpose();
    let revocation = [
        ("strict", Revocation::Strict),
        ("ifuri", Revocation::IfUri),
        ("relaxed", Revocation::Relaxed),
    ];
    let mut round = AuthRound {
        name: name.to_owned(),
        round: section.find("round").map_or(Ok(0), |item| item.integer(0..=1000))? as u32,
        auth: section.find("auth").map_or(Ok("pubkey".to_owned()), |item| check_auth(&item))?,
        id: text("id")?,
        eap_id: text("eap_id")?,
        certs: files(&section, "certs", &directory.join("x509"))?,
        pubkeys: files(&section, "pubkeys", &directory.join("pubkey"))?,
        cacerts: files(&section, "cacerts", &directory.join("x509ca"))?,
        revocation: choice_or(&section, "revocation", Revocation::Relaxed, &revocation)?,
        place: item.place(),
    };
    certificate_sections(&section, "cert", &directory.join("x509"), &mut round.certs)?;
    certificate_sections(&section, "cacert", &directory.join("x509ca"), &mut round.cacerts)?;
    refuse_unsupported(&section, UNSUPPORTED)?;
    section.finish()?;
    Ok(round)
}

/// The rounds of one side in order; public keys and no identity if there are none.
pub(crate) fn read_rounds(
    section: &Section<'_>,
    side: &'static str,
    directory: &Path,
) -> Result<Vec<AuthRound>, ConfigError> {
    let named = section.sections_with_prefix(side);
    let read = |(name, item): &(String, Item<'_>)| read_round(name, item, directory);
    let mut rounds = named.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    if rounds.is_empty() {
        rounds.push(AuthRound {
            name: side.to_owned(),
            round: 0,
            auth: "pubkey".to_owned(),
            id: None,
            eap_id: None,
            certs: Vec::new(),
            pubkeys: Vec::new(),
            cacerts: Vec::new(),
            revocation: Revocation::Relaxed,
            place: section.place_of(side),
        });
    }
    // Stable: the order of the file decides between equals.
    rounds.sort_by_key(|round| round.round);
    Ok(rounds)
}
