//! Steering.
#![no_std]
