//! Where a TPM is, and how libtss2 is told.
//!
//! Invariant: only a device's path or a numeric address reaches libtss2's loader.

use std::net::SocketAddr;
use std::str::FromStr;

use strongroom_sys::confine::Profile;
use tss_esapi::TctiNameConf;

/// Where a TPM is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A character device, such as `/dev/tpmrm0`.
    Device(String),
    /// The TCP socket of a software TPM, `swtpm:ADDRESS:PORT`; libtss2 expects its control channel at the next port.
    Tcp(SocketAddr),
}

/// Not a place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is neither device:/PATH nor swtpm:ADDRESS:PORT")]
pub struct BadPlace(String);

impl FromStr for Place {
    type Err = BadPlace;

    fn from_str(text: &str) -> Result<Self, BadPlace> {
        match text.split_once(':') {
            Some(("device", path)) if path.starts_with('/') => Ok(Self::Device(path.to_owned())),
            Some(("swtpm", address)) => {
                address.parse().map(Self::Tcp).map_err(|_| BadPlace(text.to_owned()))
            }
            Some(_) | None => Err(BadPlace(text.to_owned())),
        }
    }
}

impl Place {
    /// As tss-esapi takes it.
    ///
    /// # Errors
    /// When the path has no form there.
    pub fn name(&self) -> tss_esapi::Result<TctiNameConf> {
        match self {
            Self::Device(path) => TctiNameConf::from_str(&format!("device:{path}")),
            Self::Tcp(address) => {
                let (host, port) = (address.ip(), address.port());
                TctiNameConf::from_str(&format!("swtpm:host={host},port={port}"))
            }
        }
    }

    /// How the process that talks to it is confined.
    pub const fn profile(&self) -> Profile<'static> {
        match self {
            Self::Device(_) => Profile::Tpm,
            Self::Tcp(address) => {
                let port = address.port();
                Profile::SoftwareTpm { ports: [port, port.saturating_add(1)] }
            }
        }
    }

    /// The module that libtss2 loads for it, as Debian's package is called.
    pub const fn package(&self) -> &'static str {
        match self {
            Self::Device(_) => "libtss2-tcti-device0",
            Self::Tcp(_) => "libtss2-tcti-swtpm0",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;

    use super::Place;

    #[test]
    fn a_place_is_a_device_or_a_software_tpm() {
        let told = |text: &str| {
            let place: Place = text.parse().unwrap();
            CString::try_from(place.name().unwrap()).unwrap().into_string().unwrap()
        };
        assert_eq!(told("swtpm:127.0.0.1:2321"), "swtpm:host=127.0.0.1,port=2321");
        assert_eq!(told("swtpm:[::1]:2321"), "swtpm:host=::1,port=2321");
        assert_eq!(told("device:/dev/tpmrm0"), "device:/dev/tpmrm0");
        for bad in [
            "",
            "/dev/tpmrm0",
            "device:tpm0",
            "device:",
            "swtpm:host=127.0.0.1,port=1",
            "swtpm:localhost:1",
            "swtpm:/run/s",
            "cmd:sh",
            "tabrmd:",
            "swtpm:",
        ] {
            assert!(bad.parse::<Place>().is_err(), "{bad}");
        }
    }
}
