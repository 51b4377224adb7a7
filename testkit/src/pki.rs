//! Certificates for gateways of a test, made with the `openssl` command.
//!
//! One authority and one certificate for each gateway, in the folders a gateway looks for them:
//! `x509ca`, `x509`, `private` beside its configuration.

use crate::failure::Outcome;
use crate::netns;
use crate::process::ScratchDirectory;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// An authority of one test.
#[derive(Debug)]
pub struct Authority {
    directory: ScratchDirectory,
}

fn openssl(directory: &Path, arguments: &str) -> Outcome<()> {
    let mut command = Command::new("openssl");
    command.current_dir(directory).args(arguments.split(' '));
    netns::run(&mut command).map(drop)
}

impl Authority {
    /// Makes a key on P-256 and a certificate of its own.
    ///
    /// # Errors
    /// No `openssl`, or what it said.
    pub fn create() -> Outcome<Self> {
        let directory = ScratchDirectory::create("pki")?;
        openssl(
            directory.path(),
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
             -keyout ca.key -out ca.pem -subj /O=xswan/CN=test-CA \
             -addext keyUsage=critical,keyCertSign,cRLSign",
        )?;
        Ok(Self { directory })
    }

    /// Makes a certificate for a name and puts it, its key and the authority's certificate
    /// where a gateway with its configuration in `gateway` looks for them.
    ///
    /// # Errors
    /// What `openssl` or the file system said.
    pub fn issue(&self, name: &str, gateway: &Path) -> Outcome<()> {
        let own = self.directory.path();
        openssl(
            own,
            &format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
                 -keyout {name}.key -out {name}.csr -subj /O=xswan/CN={name}"
            ),
        )?;
        let extensions =
            format!("subjectAltName=DNS:{name}\nextendedKeyUsage=serverAuth,clientAuth\n");
        std::fs::write(own.join(format!("{name}.ext")), extensions)?;
        openssl(
            own,
            &format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 \
                 -extfile {name}.ext -out {name}.pem"
            ),
        )?;
        let copies = [
            ("x509ca", "ca.pem".to_owned()),
            ("x509", format!("{name}.pem")),
            ("private", format!("{name}.key")),
        ];
        for (folder, file) in copies {
            let folder = gateway.join(folder);
            std::fs::create_dir_all(&folder)?;
            std::fs::copy(own.join(&file), folder.join(&file))?;
            let private = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(folder.join(&file), private)?;
        }
        Ok(())
    }
}
