//! snp-lab
