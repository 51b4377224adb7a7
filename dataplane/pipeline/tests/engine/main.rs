//! The engine from outside: frames in, frames out, every packet and every buffer accounted for.
//!
//! What comes in is built by the testkit, whose headers, checksums and ESP are its own.

#[cfg(test)]
mod gateway;
#[cfg(test)]
mod rings;

#[cfg(test)]
mod gateways;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod inbound;
#[cfg(test)]
mod lifetime;
#[cfg(test)]
mod moved;
#[cfg(test)]
mod mtu;
#[cfg(test)]
mod nesting;
#[cfg(test)]
mod onward;
#[cfg(test)]
mod originate;
#[cfg(test)]
mod outbound;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod trap;
