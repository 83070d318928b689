//! Which endpoints go through a proxy, by example.

use super::*;

fn proxies(vars: &[(&str, &str)]) -> Result<Proxies, ConfigError> {
    Proxies::from_vars(|name| {
        vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    })
}

/// The proxy that is chosen for an endpoint, or `direct`.
fn check(vars: &[(&str, &str)], endpoint: &str, expected: &str) {
    let chosen = proxies(vars).unwrap().describe(endpoint);
    assert_eq!(chosen.as_deref().unwrap_or("direct"), expected, "{vars:?} {endpoint}");
}

fn check_no_proxy(no_proxy: &str, host: &str, proxied: bool) {
    let vars = [("HTTPS_PROXY", "http://p:3128"), ("NO_PROXY", no_proxy)];
    let expected = if proxied { "http://p:3128" } else { "direct" };
    check(&vars, &format!("https://{host}/v3"), expected);
}

#[test]
fn the_scheme_chooses_the_variable() {
    let both = [("HTTPS_PROXY", "http://s:1"), ("HTTP_PROXY", "http://h:2")];
    check(&both, "https://agent.buildkite.com/v3", "http://s:1");
    check(&both, "http://sandbox.corp/v3", "http://h:2");
    check(&[], "https://agent.buildkite.com/v3", "direct");
    check(&[("HTTPS_PROXY", " ")], "https://agent.buildkite.com/v3", "direct");
    check(&[("ALL_PROXY", "http://a:3")], "https://agent.buildkite.com/v3", "http://a:3");
    let lower = [("https_proxy", "http://l:4"), ("HTTPS_PROXY", "http://s:1")];
    check(&lower, "https://agent.buildkite.com/v3", "http://l:4");
    check(&[("HTTPS_PROXY", "gateway.corp:3128")], "https://a.test/", "http://gateway.corp:3128");
    check(
        &[("HTTPS_PROXY", "https://gateway.corp")],
        "https://a.test/",
        "https://gateway.corp:443",
    );
}

#[test]
fn loopback_never_goes_through_a_proxy() {
    let all = [("ALL_PROXY", "http://p:3128")];
    for host in ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.8.0.1", "[::1]"] {
        check(&all, &format!("http://{host}:8910/v3"), "direct");
        check(&all, &format!("https://{host}:8910/v3"), "direct");
    }
    check(&all, "http://[::ffff:127.0.0.1]:8910/v3", "direct");
    check(&all, "http://localhost.corp/v3", "http://p:3128");
}

#[test]
fn no_proxy_takes_names_networks_and_ports() {
    check_no_proxy("*", "agent.buildkite.com", false);
    check_no_proxy("buildkite.com", "agent.buildkite.com", false);
    check_no_proxy("buildkite.com", "buildkite.com.", false);
    check_no_proxy("Buildkite.COM", "AGENT.buildkite.com", false);
    check_no_proxy("kite.com", "buildkite.com", true);
    check_no_proxy(".buildkite.com", "agent.buildkite.com", false);
    check_no_proxy(".buildkite.com", "buildkite.com", true);
    check_no_proxy("*.buildkite.com", "agent.buildkite.com", false);
    check_no_proxy("a.test, b.test c.test", "c.test", false);
    check_no_proxy("a.test:8443", "a.test:8443", false);
    check_no_proxy("a.test:8443", "a.test", true);
    check_no_proxy("a.test:443", "a.test", false);
    check_no_proxy("10.0.0.0/8", "10.9.8.7", false);
    check_no_proxy("10.0.0.0/8", "11.0.0.1", true);
    check_no_proxy("0.0.0.0/0", "11.0.0.1", false);
    check_no_proxy("10.1.2.3", "10.1.2.3:8443", false);
    check_no_proxy("fd00::/8", "[fd12::1]", false);
    check_no_proxy("fd00::/8", "[fe12::1]", true);
    check_no_proxy("[fd12::1]:8443", "[fd12::1]:8443", false);
    check_no_proxy("fd12::1", "[fd12::1]", false);
    check_no_proxy("10.0.0.0/33,:80,/8,", "10.0.0.1", true);
}

#[test]
fn a_bad_proxy_is_named_and_its_password_is_not() {
    for (value, reason) in [
        ("socks5://me:pa55word@p:1080", "only http:// and https:// proxies can be used"),
        ("http://me:pa55word@:x", "not an address"),
    ] {
        let error = proxies(&[("https_proxy", value)]).unwrap_err().to_string();
        assert!(error.starts_with("https_proxy: "), "{error}");
        assert!(error.contains(reason), "{error}");
        assert!(!error.contains("pa55word"), "{error}");
    }
    let good = proxies(&[("HTTPS_PROXY", "http://me:pa55word@p:3128")]).unwrap();
    assert!(!format!("{good:?}").contains("pa55word"));
    assert_eq!(good.describe("https://a.test").as_deref(), Some("http://…@p:3128"));
}
