//! A swanctl directory read as xswan's configuration.
#![forbid(unsafe_code)]
