//! EAP methods of IKE_AUTH, both roles, without any IO.
#![forbid(unsafe_code)]
