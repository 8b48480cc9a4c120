//! The numbered cases of spec/snp-arch.md section 7, one test each.

mod access;
mod defects;
mod details;
mod firmware_guests;
mod firmware_order;
mod firmware_pages;
mod firmware_platform;
mod guest;
mod platform;
mod rights;
mod scope;
mod support;
mod update;
