//! Choosing a proposal (RFC 7296 sections 2.7 and 3.3): the operator's lists against the peer's.

use crate::policy::ProposalPolicy;
use crate::wire::{Proposal, Transform};
use std::fmt;
use xswan_ike_crypto::{Encryption, Group, Integrity, Prf};

pub use crate::wire::{protocol, transform as kind};

/// What was chosen: at most one transform of each type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Number of the peer's proposal.
    pub number: u8,
    /// The peer's SPI in it.
    pub spi: Vec<u8>,
    /// The transforms, in order of type.
    pub transforms: Vec<Transform>,
}

impl Choice {
    /// The transform of a type, if there is one and it is not NONE.
    #[must_use]
    pub fn transform(&self, kind: u8) -> Option<&Transform> {
        let of_kind = |transform: &&Transform| transform.kind == kind;
        let optional = |transform: &&Transform| kind == kind::SN || transform.id != 0;
        self.transforms.iter().find(of_kind).filter(optional)
    }

    /// The number of a transform, 0 if there is none.
    #[must_use]
    pub fn id(&self, kind: u8) -> u16 {
        self.transform(kind).map_or(0, |transform| transform.id)
    }

    /// The additional key exchanges, in order.
    #[must_use]
    pub fn additional_key_exchanges(&self) -> Vec<u16> {
        let kinds = kind::ADDKE1..=kind::ADDKE7;
        kinds.map(|kind| self.id(kind)).filter(|id| *id != 0).collect()
    }

    /// As a proposal of its own, to be sent back.
    #[must_use]
    pub fn to_proposal(&self, protocol: u8, spi: Vec<u8>) -> Proposal {
        Proposal { number: self.number, protocol, spi, transforms: self.transforms.clone() }
    }
}

/// Why nothing was chosen, for the log: for the policy that came nearest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoCommonProposal {
    /// Types in which there is nothing common, with both sides' alternatives.
    missing: Vec<(u8, Vec<u16>, Vec<u16>)>,
}

impl fmt::Display for NoCommonProposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.missing.is_empty() {
            return f.write_str("the peer offers nothing for this protocol");
        }
        let list = |ids: &[u16], kind: u8| {
            let names: Vec<_> = ids.iter().map(|id| transform_name(kind, *id)).collect();
            if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
        };
        for (position, (kind, ours, theirs)) in self.missing.iter().enumerate() {
            let separator = if position == 0 { "" } else { "; " };
            let what = match *kind {
                kind::ENCR => "encryption",
                kind::PRF => "PRF",
                kind::INTEG => "integrity",
                kind::KE => "key exchange",
                kind::SN => "sequence numbers",
                _ => "additional key exchange",
            };
            let (ours, theirs) = (list(ours, *kind), list(theirs, *kind));
            write!(f, "{separator}{what}: we allow {ours}, the peer offers {theirs}")?;
        }
        Ok(())
    }
}

/// The name of a transform for people.
#[must_use]
pub fn transform_name(kind: u8, id: u16) -> String {
    let known = match kind {
        kind::ENCR => Encryption::ALL.iter().find(|item| item.id() == id).map(|item| {
            let name = item.name();
            name.split('-').next().unwrap_or(name)
        }),
        kind::PRF => Prf::from_transform_id(id).map(Prf::name),
        kind::INTEG => Integrity::from_transform_id(id).map(Integrity::name),
        kind::SN => match id {
            0 => Some("NO_EXT_SEQ"),
            1 => Some("EXT_SEQ"),
            _ => None,
        },
        _ => Group::from_transform_id(id).map(Group::name),
    };
    known.map_or_else(|| id.to_string(), str::to_owned)
}

/// Chooses from what a peer offers. Our order decides between proposals and between the
/// alternatives of a type.
///
/// `without_ke` leaves key exchanges out: a Child SA made by IKE_AUTH has none of its own.
/// `preferred_ke` is taken among key exchanges if it is common: the one whose public value
/// came with the request, which saves a round trip.
///
/// # Errors
/// What is missing on which side.
pub fn choose(
    offered: &[Proposal],
    allowed: &[ProposalPolicy],
    protocol: u8,
    without_ke: bool,
    preferred_ke: Option<u16>,
) -> Result<Choice, NoCommonProposal> {
    let mut nearest: Option<NoCommonProposal> = None;
    for policy in allowed {
        for proposal in offered.iter().filter(|proposal| proposal.protocol == protocol) {
            match choose_from(proposal, policy, without_ke, preferred_ke) {
                Ok(choice) => return Ok(choice),
                Err(missing) => {
                    let nearer = nearest
                        .as_ref()
                        .is_none_or(|old| missing.missing.len() < old.missing.len());
                    if nearer {
                        nearest = Some(missing);
                    }
                }
            }
        }
    }
    Err(nearest.unwrap_or(NoCommonProposal { missing: Vec::new() }))
}

const fn is_ke(kind: u8) -> bool {
    matches!(kind, kind::KE | kind::ADDKE1..=kind::ADDKE7)
}

fn choose_from(
    offered: &Proposal,
    policy: &ProposalPolicy,
    without_ke: bool,
    preferred_ke: Option<u16>,
) -> Result<Choice, NoCommonProposal> {
    let mut chosen = Vec::new();
    let mut missing = Vec::new();
    for kind in kind::ENCR..=kind::ADDKE7 {
        if without_ke && is_ke(kind) {
            continue;
        }
        let ours: Vec<_> = policy.transforms.iter().filter(|own| own.kind == kind).collect();
        let theirs: Vec<_> = offered.transforms.iter().filter(|peer| peer.kind == kind).collect();
        // NONE and absence are the same (RFC 7296 section 3.3.2); sequence numbers have no NONE.
        let none = |list: &[&Transform]| {
            list.is_empty() || (kind != kind::SN && list.iter().any(|item| item.id == 0))
        };
        let real = |own: &&&Transform| {
            let same = |peer: &&Transform| {
                peer.id == own.id && peer.key_bits == own.key_bits && peer.is_usable()
            };
            (own.id != 0 || kind == kind::SN) && theirs.iter().any(same)
        };
        let preferred = |own: &&&Transform| kind == kind::KE && Some(own.id) == preferred_ke;
        let found = ours.iter().filter(real).find(preferred).or_else(|| ours.iter().find(real));
        match found {
            Some(transform) => chosen.push((*transform).clone()),
            None if none(&ours) && none(&theirs) => {}
            None => {
                let ids = |list: &[&Transform]| list.iter().map(|item| item.id).collect();
                missing.push((kind, ids(&ours), ids(&theirs)));
            }
        }
    }
    if missing.is_empty() {
        let number = offered.number;
        Ok(Choice { number, spi: offered.spi.clone(), transforms: chosen })
    } else {
        Err(NoCommonProposal { missing })
    }
}

/// The offer for a policy list: numbered from 1, each with our SPI.
#[must_use]
pub fn offer(
    policies: &[ProposalPolicy],
    protocol: u8,
    spi: &[u8],
    without_ke: bool,
) -> Vec<Proposal> {
    let kept = |transform: &&Transform| !(without_ke && is_ke(transform.kind));
    (1_u8..)
        .zip(policies)
        .map(|(number, policy)| Proposal {
            number,
            protocol,
            spi: spi.to_vec(),
            transforms: policy.transforms.iter().filter(kept).cloned().collect(),
        })
        .collect()
}

/// Whether an answer chose from what was offered: one proposal, one transform of each type at
/// most, each of them offered (RFC 7296 section 2.7). Returns the choice.
#[must_use]
pub fn check_answer(
    answer: &[Proposal],
    policies: &[ProposalPolicy],
    protocol: u8,
    without_ke: bool,
) -> Option<Choice> {
    let [answer] = answer else { return None };
    let policy = policies.get(usize::from(answer.number).checked_sub(1)?)?;
    let mut kinds: Vec<u8> = answer.transforms.iter().map(|transform| transform.kind).collect();
    kinds.sort_unstable();
    let unique = kinds.windows(2).all(|pair| pair.first() != pair.last());
    if !unique || answer.protocol != protocol {
        return None;
    }
    choose_from(answer, policy, without_ke, None).ok()
}
