//! Certificates for servers and clients of a test: an authority, and what it signs, as PEM files in one folder.

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use std::fs;
use std::path::{Path, PathBuf};

/// An authority whose certificate is `ca.crt` of its folder.
pub(crate) struct Pki {
    pub(crate) dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    pub(crate) fn new(dir: &Path) -> Self {
        fs::create_dir_all(dir).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        fs::write(dir.join("ca.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { dir: dir.to_owned(), issuer: Issuer::new(params, key) }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }

    /// `NAME.crt` and `NAME.key` of a server on this machine.
    pub(crate) fn server(&self, name: &str) -> &Self {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        self.sign(name, CertificateParams::new(names).unwrap(), ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// `NAME.crt` and `NAME.key` of a client: Kubernetes reads the user from the common name, groups from the organization.
    pub(crate) fn client(&self, name: &str, common_name: &str, organization: Option<&str>) -> &Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        if let Some(organization) = organization {
            params.distinguished_name.push(DnType::OrganizationName, organization);
        }
        self.sign(name, params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// A key pair alone, as `NAME.key` and `NAME.pub`.
    pub(crate) fn key(&self, name: &str) -> &Self {
        let key = KeyPair::generate().unwrap();
        self.write(&format!("{name}.key"), &key.serialize_pem()).write(&format!("{name}.pub"), &key.public_key_pem())
    }

    fn sign(&self, name: &str, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose) -> &Self {
        let key = KeyPair::generate().unwrap();
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        self.write(&format!("{name}.crt"), &certificate.pem()).write(&format!("{name}.key"), &key.serialize_pem())
    }

    fn write(&self, name: &str, text: &str) -> &Self {
        use std::os::unix::fs::PermissionsExt;
        let path = self.dir.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        self
    }
}
