//! One instance of each role.
//!
//! In a program of its own: a lock belongs to an open file, and a test beside it that forks
//! would hold it on for as long as its child lives.

use xswan_sa_api::{InstanceLock, Role};

#[test]
fn a_second_instance_is_refused_by_name() {
    let directory = std::env::temp_dir().join(format!("xswan-lock-{}", std::process::id()));
    let first = InstanceLock::acquire(&directory, Role::Control).expect("first");
    assert!(InstanceLock::is_held(&directory, Role::Control));
    assert!(!InstanceLock::is_held(&directory, Role::Dataplane));
    let second = InstanceLock::acquire(&directory, Role::Control).expect_err("held");
    let text = second.to_string();
    assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    let _other = InstanceLock::acquire(&directory, Role::Dataplane).expect("other role");
    drop(first);
    InstanceLock::acquire(&directory, Role::Control).expect("free again");
    std::fs::remove_dir_all(&directory).expect("removed");
}
