//! What the kit writes for a gateway is what the daemons' reader takes.

use xswan_config::Config;
use xswan_testkit::failure::Outcome;
use xswan_testkit::process::ScratchDirectory;
use xswan_testkit::topology::{Outer, tunnel};

#[test]
fn both_ends_of_a_tunnel_are_accepted_with_their_keys() -> Outcome<()> {
    for (outer, encap) in [(Outer::V4, false), (Outer::V4, true), (Outer::V6, false)] {
        for proposal in ["aes128gcm16-esn", "aes192gcm16-noesn", "chacha20poly1305-esn"] {
            for config in tunnel(outer, encap, proposal)? {
                let scratch = ScratchDirectory::create("config")?;
                let file = config.write(scratch.path())?;
                let read = Config::load(&file).map_err(|error| error.to_string())?;
                assert_eq!(read.connections.len(), 1);
                let keys = read.load_keys().map_err(|error| error.to_string())?;
                let sa = config.connections[0].sa.as_ref().expect("keys");
                assert!(!format!("{keys:?}").contains(sa.key_in.hex()));
            }
        }
    }
    Ok(())
}
