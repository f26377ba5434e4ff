//! Certificates and keys that fit, and all the ways in which they don't.

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, SignatureAlgorithm};

use super::*;

/// A self-signed certificate and its key, as PEM.
fn pair(algorithm: &'static SignatureAlgorithm, names: &[&str]) -> (String, String) {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn parse(chain: &str, key: &str) -> Result<Certificate, BadCertificate> {
    Certificate::parse("shop/cert".into(), chain.as_bytes(), key.as_bytes())
}

#[test]
fn every_kind_of_key_is_understood() {
    let kinds = [(&PKCS_ECDSA_P256_SHA256, Algorithm::Ecdsa), (&PKCS_ED25519, Algorithm::Ed25519), (&PKCS_RSA_SHA256, Algorithm::Rsa)];
    for (kind, expected) in kinds {
        let (chain, key) = pair(kind, &["a.example"]);
        let certificate = parse(&chain, &key).unwrap();
        assert_eq!((certificate.algorithm(), certificate.source()), (expected, "shop/cert"));
    }
}

#[test]
fn a_chain_is_kept_whole() {
    let (own, key) = pair(&PKCS_ECDSA_P256_SHA256, &["a.example"]);
    let (issuer, _) = pair(&PKCS_ECDSA_P256_SHA256, &["issuer.example"]);
    let text = format!("what people write above\n{own}\n{issuer}");
    assert_eq!(parse(&text, &key).unwrap().key().cert.len(), 2);
}

#[test]
fn what_is_of_no_use_says_why() {
    let (chain, key) = pair(&PKCS_ECDSA_P256_SHA256, &["a.example"]);
    let (other, _) = pair(&PKCS_ECDSA_P256_SHA256, &["a.example"]);
    let garbled = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let half = chain.get(..chain.len() / 2).unwrap();
    let cut = key.replace("MIG", "MIH");
    let cases = [
        ("", key.as_str(), "holds no certificate"),
        ("hello", &key, "holds no certificate"),
        (&key, &key, "holds no certificate"),
        (garbled, &key, "`tls.crt` can't be read"),
        (half, &key, "`tls.crt` can't be read"),
        (&chain, "", "holds no private key"),
        (&chain, &chain, "holds no private key"),
        (&chain, &encrypted, "holds no private key"),
        (&chain, &cut, "`tls.key` can't be used"),
        (&other, &key, "is not the key of the first certificate"),
        (&format!("{other}{chain}"), &key, "is not the key of the first certificate"),
    ];
    for (chain, key, expected) in cases {
        let error = parse(chain, key).unwrap_err().to_string();
        assert!(error.contains(expected), "{error} instead of {expected}");
    }
}

#[test]
fn names_are_compared_as_clients_do() {
    let (chain, key) = pair(&PKCS_ECDSA_P256_SHA256, &["A.example", "*.Shop.example"]);
    let certificate = parse(&chain, &key).unwrap();
    let hosts = [
        ("a.example", true),
        ("b.example", false),
        ("x.shop.example", true),
        ("*.shop.example", true),
        ("y.x.shop.example", false),
        ("shop.example", false),
        ("*.example", false),
    ];
    for (host, expected) in hosts {
        assert_eq!(certificate.covers(host), expected, "{host}");
    }
}

#[test]
fn no_complaint_quotes_a_key_that_was_damaged() {
    let (chain, key) = pair(&PKCS_ECDSA_P256_SHA256, &["a.example"]);
    let secret: Vec<&str> = key.lines().filter(|line| !line.starts_with("--")).collect();
    for damaged in [
        key.replace('\n', " "),
        key.replace('\n', "\\n"),
        key.replace("-----\n", "----- "),
        key.replace("-----END", "END"),
        format!("{key}{key}").replace('\n', ""),
    ] {
        for (chain, key) in [(&chain, &damaged), (&damaged, &key), (&damaged, &damaged)] {
            let Err(error) = parse(chain, key) else { panic!("{damaged} was taken") };
            let text = format!("{error} {error:?}");
            let as_numbers = format!("{:?}", secret[0].as_bytes());
            assert!(!text.contains(secret[0]) && !text.contains(as_numbers.trim_matches(['[', ']'])), "{text}");
        }
    }
}

#[test]
fn nothing_shows_the_key() {
    let (chain, key) = pair(&PKCS_ECDSA_P256_SHA256, &["a.example"]);
    let shown = format!("{:?}", parse(&chain, &key).unwrap());
    assert_eq!(shown, r#"Certificate { source: "shop/cert", names: ["a.example"], .. }"#);
}
