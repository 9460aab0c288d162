//! The destination's own URLs: told from foreign ones, and turned into ours.
//!
//! Invariant: an absolute URL of the destination reaches a caller only as one of ours, or not at all: an SDK that follows it
//! would take the caller's token to the provider.
//! Invariant: a URL counts as the destination's only if scheme, host and port are the same and nothing stands before the host.

use strongroom_policy::destination::Destination;
use strongroom_policy::target::Target;

pub(crate) struct Origin {
    /// `https://host`, with the port unless it is 443.
    text: String,
    base_path: String,
    public_prefix: String,
}

impl Origin {
    pub(crate) fn new(destination: &Destination, public_prefix: &str) -> Self {
        let host: &str = destination.host.as_ref();
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let text = match destination.port {
            443 => format!("https://{host}"),
            port => format!("https://{host}:{port}"),
        };
        Self {
            text,
            base_path: destination.base_path.clone(),
            public_prefix: public_prefix.to_owned(),
        }
    }

    /// The canonical path and query of a redirect within this origin; `None` when it leads elsewhere.
    pub(crate) fn target_of(&self, location: &[u8]) -> Option<String> {
        let location = std::str::from_utf8(location).ok()?;
        let relative = location.starts_with('/') && !location.starts_with("//");
        let path = if relative { location } else { self.path_of(location)? };
        // A fragment is for the client (RFC 9110, 10.2.2).
        let path = path.split('#').next().unwrap_or_default();
        Target::parse(path).ok().map(|target| target.as_str().to_owned())
    }

    /// Our URL for one of the destination's, without parameters that carry a key; `None` when it leads elsewhere.
    pub(crate) fn public_url(&self, url: &[u8]) -> Option<String> {
        let target = Target::parse(&self.target_of(url)?).ok()?;
        let path = target.path().strip_prefix(&self.base_path)?;
        if !path.starts_with('/') {
            return None;
        }
        let mut public = format!("{}{path}", self.public_prefix);
        let mut mark = '?';
        for (name, value) in target.parameters() {
            if !KEY_PARAMETERS.contains(&name) {
                public.push(mark);
                public.push_str(name);
                public.push('=');
                public.push_str(value);
                mark = '&';
            }
        }
        Some(public)
    }

    /// How the destination's URLs begin, base path included.
    pub(crate) fn start(&self) -> String {
        format!("{}{}", self.text, self.base_path)
    }

    pub(crate) fn public_prefix(&self) -> &str {
        &self.public_prefix
    }

    fn path_of<'u>(&self, url: &'u str) -> Option<&'u str> {
        let start = url.get(..self.text.len())?;
        let rest = url.get(self.text.len()..)?;
        // Otherwise `api.example.com.evil` or `api.example.com@evil` would pass.
        let ends = rest.is_empty() || rest.starts_with(['/', '?', '#']);
        match rest {
            _ if !start.eq_ignore_ascii_case(&self.text) || !ends => None,
            "" => Some("/"),
            rest if rest.starts_with('/') => Some(rest),
            _ => None,
        }
    }
}

/// Parameters in which providers were seen to repeat the key in URLs that they hand out.
const KEY_PARAMETERS: [&str; 3] = ["key", "access_token", "api_key"];

#[cfg(test)]
pub(super) mod tests {
    use strongroom_policy::destination::{Injection, Reach};
    use strongroom_policy::name::HostName;

    use super::*;

    pub(crate) fn origin(base_path: &str, port: u16) -> Origin {
        let host = HostName::parse("api.example.com").unwrap();
        let destination = Destination {
            host: host.clone(),
            port,
            tls_name: host,
            extra_authorities: Vec::new(),
            reach: Reach::Public,
            base_path: base_path.to_owned(),
            injection: Injection::Bearer,
            fixed_headers: Vec::new(),
        };
        Origin::new(&destination, "https://our.example/p/one")
    }

    #[test]
    fn only_the_same_scheme_host_and_port_are_the_same_origin() {
        let origin = origin("", 443);
        for (location, target) in [
            ("https://api.example.com/v1/x?a=b", Some("/v1/x?a=b")),
            ("HTTPS://API.example.com/v1/x#part", Some("/v1/x")),
            ("/v1/x", Some("/v1/x")),
            ("https://api.example.com", Some("/")),
            ("http://api.example.com/v1", None),
            ("https://api.example.com:8443/v1", None),
            ("https://api.example.com.evil.example/v1", None),
            ("https://api.example.com@evil.example/v1", None),
            ("https://evil.example/https://api.example.com/", None),
            ("//evil.example/v1", None),
            ("/\\evil.example/v1", None),
            ("v1/x", None),
            ("https://api.example.com/v1/../x", None),
            ("https://api.example.com\\@evil.example/", None),
            ("", None),
        ] {
            assert_eq!(origin.target_of(location.as_bytes()).as_deref(), target, "{location}");
        }
    }

    #[test]
    fn a_url_of_the_destination_becomes_ours_without_the_key() {
        let url =
            b"https://api.example.com:8443/base/upload/v1beta/files?upload_id=7&key=sk-x&up=y";
        let public = "https://our.example/p/one/upload/v1beta/files?upload_id=7&up=y";
        assert_eq!(origin("/base", 8443).public_url(url).as_deref(), Some(public));
        let outside = b"https://api.example.com/basement/x";
        assert_eq!(origin("/base", 443).public_url(outside), None);
    }
}
