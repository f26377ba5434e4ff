//! A path in its normal form (RFC 3986 section 6.2.2), made once: what is matched is what is forwarded.

use std::borrow::Cow;

/// Why a path was refused; always 400 `bad_request`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// It does not begin with `/`. `*` (OPTIONS) is among these.
    #[error("the path does not begin with /")]
    NotAbsolute,
    /// `%` without two hexadecimal digits behind it.
    #[error("the path has an invalid escape")]
    Escape,
    /// `%00`: backends in C end the path there.
    #[error("the path has an escaped NUL")]
    Nul,
    /// A raw control byte.
    #[error("the path has a control byte")]
    Control,
    /// A raw backslash: some backends take it for a slash.
    #[error("the path has a backslash")]
    Backslash,
    /// `..` that leads above the root.
    #[error("the path leads above the root")]
    AboveRoot,
}

/// The normal form of a path, without its query: escapes of unreserved characters decoded, other escapes in upper case, dot segments removed,
/// escaped ones too. `%2F`, `%5C` and `//` stay as they are. A raw space (Ingress rules may have one) and raw bytes beyond ASCII are
/// escaped, so that both spellings match one rule.
///
/// Borrowed if the path is normal already. Applying it twice changes nothing.
pub fn normalize(path: &str) -> Result<Cow<'_, str>, BadPath> {
    if !path.starts_with('/') {
        return Err(BadPath::NotAbsolute);
    }
    if is_normal(path.as_bytes()) { Ok(Cow::Borrowed(path)) } else { rebuild(path.as_bytes()).map(Cow::Owned) }
}

/// True only if [`rebuild`] would return the same.
fn is_normal(path: &[u8]) -> bool {
    let mut rest = path;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = match byte {
            b'/' if begins_with_dot_segment(tail) => return false,
            b'%' => match tail {
                [high @ (b'0'..=b'9' | b'A'..=b'F'), low @ (b'0'..=b'9' | b'A'..=b'F'), tail @ ..] => match unhex(*high, *low) {
                    Some(value) if value != 0 && !is_unreserved(value) => tail,
                    _ => return false,
                },
                _ => return false,
            },
            0..=b' ' | b'\\' | 0x7f..=0xff => return false,
            _ => tail,
        };
    }
    true
}

fn begins_with_dot_segment(rest: &[u8]) -> bool {
    matches!(rest, [b'.'] | [b'.', b'/', ..] | [b'.', b'.'] | [b'.', b'.', b'/', ..])
}

/// RFC 3986 section 5.2.4, segment by segment, over the decoded bytes. `path` begins with a slash.
fn rebuild(path: &[u8]) -> Result<String, BadPath> {
    let mut out = String::with_capacity(path.len());
    let mut segment = 0; // where the segment that is being written begins in `out`
    let mut rest = path;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'/' => {
                if !remove_dot_segment(&mut out, segment)? {
                    out.push('/');
                }
                segment = out.len();
            }
            b'%' => {
                let [high, low, tail @ ..] = rest else { return Err(BadPath::Escape) };
                match unhex(*high, *low).ok_or(BadPath::Escape)? {
                    0 => return Err(BadPath::Nul),
                    value if is_unreserved(value) => out.push(char::from(value)),
                    value => push_escape(&mut out, value),
                }
                rest = tail;
            }
            b'\\' => return Err(BadPath::Backslash),
            0..b' ' | 0x7f => return Err(BadPath::Control),
            b' ' | 0x80..=0xff => push_escape(&mut out, byte),
            _ => out.push(char::from(byte)),
        }
    }
    remove_dot_segment(&mut out, segment)?;
    Ok(out)
}

/// Removes the last segment of `out`, which begins at `segment`, if it is `.`, and the one before it too if it is `..`: then `out` ends in the
/// slash behind which the next segment goes, and the answer is true.
fn remove_dot_segment(out: &mut String, segment: usize) -> Result<bool, BadPath> {
    match out.get(segment..) {
        Some(".") => out.truncate(segment),
        Some("..") => {
            // `out[..segment]` ends in a slash; the parent begins behind the slash before that one, if there is one.
            let parent = out.get(..segment.saturating_sub(1)).and_then(|above| above.rfind('/')).ok_or(BadPath::AboveRoot)?;
            out.truncate(parent + 1);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// RFC 3986 section 2.3.
fn is_unreserved(byte: u8) -> bool {
    matches!(byte, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~')
}

fn unhex(high: u8, low: u8) -> Option<u8> {
    Some(nibble(high)? << 4 | nibble(low)?)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

fn push_escape(out: &mut String, byte: u8) {
    out.push('%');
    for nibble in [byte >> 4, byte & 0xf] {
        out.push(char::from(if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 }));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn normal_paths_are_borrowed() {
        for path in [
            "/",
            "//",
            "/a//b",
            "/a/b/",
            "/A/b",
            "/.well-known/acme-challenge/x",
            "/...",
            "/a./b..",
            "/..a/.b",
            "/a%2Fb",
            "/%2F..%2F",
            "/a%5Cb",
            "/a%20b",
            "/a%25zz",
            "/%252e%252e/",
            "/%C3%A9",
            "/a;v=1/b,c",
            "/a|b\"{}",
            "/-._~!$&'()*+,;=:@",
        ] {
            assert!(matches!(normalize(path), Ok(Cow::Borrowed(same)) if same == path), "{path}: {:?}", normalize(path));
        }
    }

    #[test]
    fn other_paths_are_brought_into_normal_form() {
        for (path, normal) in [
            ("/%61%7A%41%5a%30%2D%2e%5F%7e", "/azAZ0-._~"),
            ("/%7euser", "/~user"),
            ("/a%2fb", "/a%2Fb"),
            ("/%c3%a9", "/%C3%A9"),
            ("/é", "/%C3%A9"),
            ("/a b", "/a%20b"),
            ("/.", "/"),
            ("/./", "/"),
            ("/a/.", "/a/"),
            ("/a/./b", "/a/b"),
            ("/a/..", "/"),
            ("/a/../", "/"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/b/../../c", "/c"),
            ("/a/%2e%2e/b", "/b"),
            ("/a/.%2E/b", "/b"),
            ("/%2e/a", "/a"),
            ("/a//..", "/a/"),
            ("/a//../b", "/a/b"),
            ("//..", "/"),
            ("//../a", "/a"),
            ("/.//a", "//a"),
            ("/a%2f../b", "/a%2F../b"),
            ("/a/%2F/../b", "/a/b"),
            ("/a%2F%2e%2e", "/a%2F.."),
            ("/a/..;/b", "/a/..;/b"),
        ] {
            let answer = normalize(path);
            // `/a%2f../b` has the one segment `a%2F..`: `%2F` is no element border.
            assert_eq!(answer.as_deref(), Ok(normal), "{path}");
        }
    }

    #[test]
    fn invalid_paths_are_refused() {
        for (path, error) in [
            ("", BadPath::NotAbsolute),
            ("*", BadPath::NotAbsolute),
            ("a/b", BadPath::NotAbsolute),
            ("/%00", BadPath::Nul),
            ("/a%00b/..", BadPath::Nul),
            ("/%", BadPath::Escape),
            ("/%2", BadPath::Escape),
            ("/%2/", BadPath::Escape),
            ("/%zz", BadPath::Escape),
            ("/%+1", BadPath::Escape),
            ("/%%34%31", BadPath::Escape),
            ("/a\\b", BadPath::Backslash),
            ("/..\\..\\", BadPath::Backslash),
            ("/\0", BadPath::Control),
            ("/\t", BadPath::Control),
            ("/\n", BadPath::Control),
            ("/\u{1f}", BadPath::Control),
            ("/\u{7f}", BadPath::Control),
            ("/..", BadPath::AboveRoot),
            ("/../", BadPath::AboveRoot),
            ("/a/../..", BadPath::AboveRoot),
            ("/a/../../a", BadPath::AboveRoot),
            ("/%2e%2e/etc", BadPath::AboveRoot),
            ("/./..", BadPath::AboveRoot),
        ] {
            assert_eq!(normalize(path), Err(error), "{path:?}");
        }
    }

    /// The same by separate passes over a list of segments.
    fn naive(path: &str) -> Option<String> {
        let bytes = path.as_bytes();
        let mut decoded = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            if bytes[at] == b'%' {
                let digits = path.get(at + 1..at + 3).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
                match u8::from_str_radix(digits, 16).unwrap() {
                    0 => return None,
                    byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => decoded.push(char::from(byte).to_string()),
                    byte => decoded.push(format!("%{byte:02X}")),
                }
                at += 3;
                continue;
            }
            match bytes[at] {
                b'\\' => return None,
                byte if byte.is_ascii_control() => return None,
                byte if byte == b' ' || !byte.is_ascii() => decoded.push(format!("%{byte:02X}")),
                byte => decoded.push(char::from(byte).to_string()),
            }
            at += 1;
        }
        let decoded = decoded.concat();
        let mut out: Vec<&str> = Vec::new();
        let segments: Vec<&str> = decoded.strip_prefix('/')?.split('/').collect();
        for (index, segment) in segments.iter().enumerate() {
            let last = index + 1 == segments.len();
            match *segment {
                "." => {}
                ".." => drop(out.pop()?),
                segment => {
                    out.push(segment);
                    continue;
                }
            }
            if last {
                out.push("");
            }
        }
        Some(format!("/{}", out.join("/")))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn agrees_with_the_naive_reference(path in "/(\\.|\\.\\.|/|%2[eEfF]|%41|%[0-9a-fA-F]{2}|%|[a-c]|;|\\\\|é| |\u{1}){0,12}") {
            prop_assert_eq!(normalize(&path).ok().map(Cow::into_owned), naive(&path), "{}", path);
        }

        #[test]
        fn is_idempotent_and_never_panics(path in "/?(\\.|/|%|[0-9a-fA-F]|%2e|\\PC){0,16}") {
            if let Ok(once) = normalize(&path) {
                prop_assert!(matches!(normalize(&once), Ok(Cow::Borrowed(twice)) if twice == once), "{} -> {}", path, once);
            }
        }
    }
}
