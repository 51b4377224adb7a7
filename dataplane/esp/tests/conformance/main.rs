//! ESP packets in and out, with real ciphers, against a builder that shares no code with them.

#[cfg(test)]
mod cbc_hmac;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod inbound;
#[cfg(test)]
mod mutants;
#[cfg(test)]
mod outbound;
#[cfg(test)]
mod trailer;
#[cfg(test)]
mod tunnel;
