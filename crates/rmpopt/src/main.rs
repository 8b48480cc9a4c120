//! rmpopt
fn main() {}
