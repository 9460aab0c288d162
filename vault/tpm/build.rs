//! Links the helper so that libtss2's contexts pass by `src/policy_nv.rs`, which says why.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for function in ["Esys_Initialize", "Esys_Finalize"] {
        println!("cargo:rustc-link-arg=-Wl,--wrap={function}");
    }
}
