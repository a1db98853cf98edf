//! Which kernel this is; judges nothing.

/// Its release, as `uname -r` tells it; `None` where /proc is not there.
#[must_use]
pub fn release() -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").ok().map(|text| text.trim().to_owned())
}

/// The first two numbers of a release, 0 for what is no number.
#[must_use]
pub fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_has_a_version_whatever_follows_it() {
        for (release, expected) in
            [("6.12.0", (6, 12)), ("6.18.44-x", (6, 18)), ("7.0-rc1", (7, 0)), ("10.1", (10, 1)), ("x", (0, 0))]
        {
            assert_eq!(version(release), expected, "{release}");
        }
    }
}
