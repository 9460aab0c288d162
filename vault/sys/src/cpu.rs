//! What the processor can do: decides which cipher seals new records.

/// Whether AES runs in hardware, so that AES-256-GCM is both fast and free of table look-ups;
/// elsewhere ChaCha20-Poly1305 is the one in constant time.
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
pub fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

/// Whether AES runs in hardware, so that AES-256-GCM is both fast and free of table look-ups;
/// elsewhere ChaCha20-Poly1305 is the one in constant time.
#[cfg(target_arch = "aarch64")]
pub fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

/// Unknown processors are taken to have none.
#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
pub fn has_aes() -> bool {
    false
}

#[cfg(test)]
mod tests {
    #[test]
    fn detection_agrees_with_the_kernel() {
        let told = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let has = told.split_whitespace().any(|word| word == "aes");
        assert_eq!(super::has_aes(), has);
    }
}
