//! GF(2^8) with the polynomial 0x11b, without tables and without branches on secrets.
//!
//! Tables indexed by a secret leak it through the cache (CVE-2023-25000).
//!
//! Invariant: the time of every function is the same for all arguments.

use std::hint::black_box;

/// The product.
pub(super) fn multiply(a: u8, b: u8) -> u8 {
    let mut factor = a;
    let mut rest = b;
    let mut product = 0;
    for _ in 0..8 {
        product ^= factor & mask(rest & 1);
        factor = (factor << 1) ^ (0x1b & mask(factor >> 7));
        rest >>= 1;
    }
    product
}

/// The inverse, `a` to the power 254; of zero, zero.
pub(super) fn invert(a: u8) -> u8 {
    let mut square = a;
    let mut inverse = 1;
    for _ in 0..7 {
        square = multiply(square, square);
        inverse = multiply(inverse, square);
    }
    inverse
}

/// All ones for 1, all zeros for 0; the barrier keeps the compiler from making a branch of it.
fn mask(bit: u8) -> u8 {
    black_box(0_u8.wrapping_sub(bit))
}

#[cfg(test)]
pub(super) mod oracle {
    //! An independent field by logarithm tables over the generator 3.

    pub(in crate::seal) struct Tables {
        exp: [u8; 255],
        log: [usize; 256],
    }

    impl Tables {
        pub(in crate::seal) fn make() -> Self {
            let (mut exp, mut log) = ([0; 255], [0; 256]);
            let mut x: u16 = 1;
            for (index, power) in exp.iter_mut().enumerate() {
                *power = u8::try_from(x).unwrap();
                log[usize::from(*power)] = index;
                x ^= x << 1;
                if x & 0x100 != 0 {
                    x ^= 0x11b;
                }
            }
            Self { exp, log }
        }

        pub(in crate::seal) fn multiply(&self, a: u8, b: u8) -> u8 {
            if a == 0 || b == 0 {
                return 0;
            }
            self.exp[(self.log[usize::from(a)] + self.log[usize::from(b)]) % 255]
        }

        pub(in crate::seal) fn divide(&self, a: u8, b: u8) -> u8 {
            if a == 0 {
                return 0;
            }
            self.exp[(255 + self.log[usize::from(a)] - self.log[usize::from(b)]) % 255]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_product_and_every_inverse_agrees_with_the_tables() {
        let tables = oracle::Tables::make();
        for a in 0..=255 {
            for b in 0..=255 {
                assert_eq!(multiply(a, b), tables.multiply(a, b), "{a} * {b}");
            }
            if a != 0 {
                assert_eq!(invert(a), tables.divide(1, a), "1 / {a}");
            }
        }
    }

    /// FIPS 197, section 4.2: the worked example of AES's field.
    #[test]
    fn the_field_is_that_of_aes() {
        assert_eq!(multiply(0x57, 0x83), 0xc1);
        assert_eq!(invert(0x53), 0xca);
    }
}
