//! Who may ask for what.
//!
//! Probes are for everybody. For the rest, with a token: whoever shows it, wherever it comes from.
//! Without a token: whoever reaches a port on loopback, and names it by address or as `localhost`, so
//! that no web page can come in under a name of its own (DNS rebinding). Without either: nobody.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use arc_swap::ArcSwapOption;
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri};
use subtle::ConstantTimeEq as _;

/// The rule of one administration port.
#[derive(Debug)]
pub struct Access {
    token_file: Option<PathBuf>,
    token: ArcSwapOption<Token>,
    is_loopback: bool,
}

/// A secret, kept out of every log.
struct Token(Vec<u8>);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("cannot read the token file {path}: check --admin-token-file and its permissions")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is nothing fit in it.
    #[error(
        "the token in {path} has {length} characters: write one of at least {TOKEN_LENGTH_MIN} \
         visible ASCII characters into it, for example by `openssl rand -hex 32`"
    )]
    Unfit {
        /// The file.
        path: PathBuf,
        /// How many it has, of those that count.
        length: usize,
    },
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Denial {
    /// Nobody may ask for this here.
    OnlyProbes,
    /// The token is missing or wrong.
    Token,
    /// The request names a host that is not loopback.
    Host,
}

impl Access {
    /// The rule of a port on `host`. The file is read at once.
    ///
    /// # Errors
    /// It holds no token.
    pub fn load(host: IpAddr, token_file: Option<PathBuf>) -> Result<Self, TokenError> {
        let access = Self {
            token_file,
            token: ArcSwapOption::empty(),
            is_loopback: host.to_canonical().is_loopback(),
        };
        access.reload()?;
        Ok(access)
    }

    /// Reads the token file again.
    ///
    /// # Errors
    /// It holds no token. The one from before goes on being asked for.
    pub fn reload(&self) -> Result<(), TokenError> {
        let Some(path) = &self.token_file else { return Ok(()) };
        let text = fs::read_to_string(path)
            .map_err(|source| TokenError::Unreadable { path: path.clone(), source })?;
        let token = text.trim();
        if token.len() < TOKEN_LENGTH_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let length = token.bytes().filter(u8::is_ascii_graphic).count();
            return Err(TokenError::Unfit { path: path.clone(), length });
        }
        self.token.store(Some(Token(token.as_bytes().to_vec()).into()));
        Ok(())
    }

    /// Whether nothing but the probes is answered.
    #[must_use]
    pub fn is_probes_only(&self) -> bool {
        !self.is_loopback && self.token.load().is_none()
    }

    /// Checks a request for something else than a probe.
    pub(super) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Denial> {
        if let Some(token) = &*self.token.load() {
            let shown = headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
            return if shown.is_some_and(|shown| token.is(shown)) {
                Ok(())
            } else {
                Err(Denial::Token)
            };
        }
        if !self.is_loopback {
            return Err(Denial::OnlyProbes);
        }
        let header = headers.get(HOST).and_then(|host| host.to_str().ok());
        let host = header.or_else(|| uri.authority().map(Authority::as_str));
        if host.is_none_or(is_local_name) { Ok(()) } else { Err(Denial::Host) }
    }
}

impl Token {
    /// Takes the same time for every text of the same length.
    fn is(&self, shown: &[u8]) -> bool {
        self.0.as_slice().ct_eq(shown).into()
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Token(..)")
    }
}

/// The token in an Authorization header.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| token.trim_ascii())
}

/// Whether a Host header names an address, or `localhost`: no page of the web can do that.
fn is_local_name(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _port)) => address,
        None => host.split_once(':').map_or(host, |(name, _port)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

const SCHEME: &[u8] = b"Bearer ";
/// Shorter ones can be guessed.
const TOKEN_LENGTH_MIN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    const TOKEN: &str = "0123456789abcdef";

    fn access(host: &str, token: Option<&str>) -> Access {
        let token = token.map(|token| Token(token.as_bytes().to_vec()).into());
        let is_loopback = host.parse::<IpAddr>().unwrap().is_loopback();
        Access { token_file: None, token: ArcSwapOption::new(token), is_loopback }
    }

    fn check(access: &Access, host: &'static str, authorization: Option<&'static str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static(host));
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, HeaderValue::from_static(value));
        }
        access.check(&Uri::from_static("/clients"), &headers).is_ok()
    }

    #[test]
    fn with_a_token_everybody_shows_it() {
        for host in ["127.0.0.1", "0.0.0.0"] {
            let access = access(host, Some(TOKEN));
            assert!(check(&access, "broker:80", Some("Bearer 0123456789abcdef")));
            assert!(check(&access, "broker:80", Some("bearer  0123456789abcdef")));
            for wrong in ["Bearer 0123456789abcdeF", "Bearer 0123456789abcde", "Bearer ", "Basic x"]
            {
                assert!(!check(&access, "127.0.0.1", Some(wrong)), "{wrong}");
            }
            assert!(!check(&access, "127.0.0.1", None));
            assert!(!access.is_probes_only());
        }
    }

    #[test]
    fn without_a_token_loopback_is_enough_and_nothing_else() {
        let local = access("::1", None);
        for host in ["localhost:8080", "127.0.0.1:1", "[::1]:8080", "LOCALHOST"] {
            assert!(check(&local, host, None), "{host}");
        }
        assert!(!check(&local, "evil.example:8080", None), "a page that rebinds its name");
        let open = access("0.0.0.0", None);
        assert!(!check(&open, "127.0.0.1", None));
        assert!(open.is_probes_only());
    }

    #[test]
    fn a_token_file_that_is_no_use_is_said() {
        let path = std::env::temp_dir().join(format!("mqttzoo-token-{}", std::process::id()));
        let load = || Access::load([127, 0, 0, 1].into(), Some(path.clone()));
        assert!(load().unwrap_err().to_string().contains("--admin-token-file"));
        fs::write(&path, "short\n").unwrap();
        assert!(load().unwrap_err().to_string().contains("has 5 characters"));
        fs::write(&path, format!("{TOKEN}\n")).unwrap();
        assert!(check(&load().unwrap(), "a", Some("Bearer 0123456789abcdef")));
        fs::remove_file(&path).unwrap();
    }
}
