//! Secrets by reference: where a credential comes from, so that the file need not hold it.

use std::{
    cell::RefCell,
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use toml::de::DeValue;

use super::{
    Environment, Secret,
    problem::Problems,
    secret_file,
    source::Seen,
    table::{Read, Value},
};

/// How a secret is written in the file.
#[derive(Debug, Clone)]
pub(super) enum Reference {
    Text(String),
    File(String),
    Credential(String),
}

impl Read for Reference {
    fn read(value: &Value<'_>, problems: &mut Problems<'_>) -> Option<Self> {
        let found = match value.get_ref() {
            DeValue::String(text) => Some(Self::Text(text.to_string())),
            DeValue::Table(table) => {
                match table.iter().map(|(name, value)| (&**name.get_ref(), value.get_ref())).collect::<Vec<_>>()[..] {
                    [("file", DeValue::String(file))] => Some(Self::File(file.to_string())),
                    [("credential", DeValue::String(name))] => Some(Self::Credential(name.to_string())),
                    _ => None,
                }
            }
            _ => None,
        };
        if found.is_none() {
            let message = "expected a string such as \"${NAME}\", or { file = \"…\" }, or { credential = \"…\" }";
            problems.add(value.span(), message);
        }
        found
    }
}

/// A resolved secret, and whether it stands in the file itself.
pub(super) struct Resolved {
    pub(super) secret: Secret,
    pub(super) is_literal: bool,
}

/// Where references lead.
pub(super) struct Resolver<'a> {
    pub(super) environment: &'a Environment,
    /// The folder of the configuration file; relative paths start there.
    pub(super) folder: &'a Path,
    /// The files that were read.
    pub(super) files: RefCell<Vec<Seen>>,
}

/// Largest file of a secret.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// The text of a file, unless there is more of it, whatever it says of its own length.
pub(super) fn read_at_most(path: &Path, bytes_max: u64) -> io::Result<Option<String>> {
    let mut content = String::new();
    File::open(path)?.take(bytes_max + 1).read_to_string(&mut content)?;
    Ok((content.len() as u64 <= bytes_max).then_some(content))
}

impl Resolver<'_> {
    /// Follows a reference, or says what is missing. Never shows a value.
    pub(super) fn resolve(&self, reference: &Reference) -> Result<Resolved, String> {
        let (value, is_literal) = match reference {
            Reference::Text(text) => self.text(text)?,
            Reference::File(file) => {
                let path = self.folder.join(file);
                let content = self.read(&path)?;
                secret_file::check(&path)?;
                (content, false)
            }
            Reference::Credential(credential) => (self.credential(credential)?, false),
        };
        let value = value.trim_end_matches(['\r', '\n']);
        if value.is_empty() {
            return Err("the secret is empty".to_owned());
        }
        if !value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
            return Err("the secret has characters that no header can carry (control or non-ASCII)".to_owned());
        }
        Ok(Resolved { secret: Secret::new(value), is_literal })
    }

    /// A credential that systemd has handed over; its folder is nobody else's, so whose a file in it is
    /// does not matter.
    fn credential(&self, name: &str) -> Result<String, String> {
        // As systemd has it (credential_name_valid): what could lead out of the folder is no name.
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            return Err(format!(
                "{name:?} is no name of a credential: expected that of LoadCredential=NAME:FILE in the unit, without a \
                 folder; {{ file = \"…\" }} names a file by its path"
            ));
        }
        let advice = match name.strip_prefix("keys_") {
            // As tollgate.service hands over a folder.
            Some(file) => format!("put the secret into /etc/tollgate/secrets/{file} and restart tollgate.service"),
            None => format!(
                "put LoadCredential={name}:/path/to/the/secret into [Service] of the unit (systemctl edit), and \
                 restart it"
            ),
        };
        let folder = self.environment.get("CREDENTIALS_DIRECTORY").ok_or_else(|| {
            format!("there are no credentials of systemd, for $CREDENTIALS_DIRECTORY is not set: {advice}")
        })?;
        let path = Path::new(folder).join(name);
        let content = self.read(&path);
        if content.is_err() && !path.exists() {
            return Err(format!("there is no credential {name:?} in {folder}: {advice}"));
        }
        content
    }

    fn read(&self, path: &Path) -> Result<String, String> {
        let seen = Seen::at(path);
        let content = read_at_most(path, SECRET_BYTES_MAX);
        self.files.borrow_mut().push(match &content {
            Ok(Some(content)) => seen.read(content.as_bytes()),
            Ok(None) | Err(_) => seen,
        });
        match content {
            Ok(Some(content)) => Ok(content),
            Ok(None) => Err(format!("{} is larger than 64 KiB, which no credential is", path.display())),
            Err(error) => Err(format!("cannot read {}: {error}", path.display())),
        }
    }

    fn text(&self, text: &str) -> Result<(String, bool), String> {
        if let Some(name) = text.strip_prefix("os.environ/") {
            return Ok((self.variable(name, None)?, false));
        }
        if !text.contains("${") {
            return Ok((text.to_owned(), true));
        }
        let mut value = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}').ok_or("`${` is not closed with `}`")?;
            let (name, default) = match name.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (name, None),
            };
            value.push_str(before);
            value.push_str(&self.variable(name, default)?);
            rest = after;
        }
        value.push_str(rest);
        Ok((value, false))
    }

    fn variable(&self, name: &str, default: Option<&str>) -> Result<String, String> {
        match (self.environment.get(name), default) {
            (Some(value), _) => Ok(value.to_owned()),
            (None, Some(default)) => Ok(default.to_owned()),
            (None, None) => Err(format!(
                "the environment variable {name} is not set: export it, or put it into the unit's EnvironmentFile"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_credential_is_found_in_its_folder_and_nowhere_else() {
        let above = std::env::temp_dir().join(format!("tollgate-credentials-{}", std::process::id()));
        let folder = above.join("in");
        fs::create_dir_all(folder.join("sub")).unwrap();
        for (path, text) in [("in/x", "inside\n"), ("in/sub/x", "deeper"), ("x", "canary")] {
            fs::write(above.join(path), text).unwrap();
        }
        let environment = Environment::of([("CREDENTIALS_DIRECTORY", folder.to_str().unwrap())]);
        let resolver = Resolver { environment: &environment, folder: Path::new("."), files: RefCell::default() };
        let resolve = |name: &str| {
            let reference = Reference::Credential(name.to_owned());
            resolver.resolve(&reference).map(|resolved| resolved.secret.expose().to_owned())
        };
        assert_eq!(resolve("x"), Ok("inside".to_owned()));
        let outside = above.join("x").to_str().unwrap().to_owned();
        for name in ["../x", &outside, "sub/x", "x/", "", ".", "..", "x\0"] {
            let why = resolve(name).unwrap_err();
            assert!(why.contains("is no name of a credential") && why.contains("LoadCredential=NAME:FILE"), "{why}");
        }
        let why = resolve("team-a").unwrap_err();
        assert!(why.contains(&format!("no credential \"team-a\" in {}", folder.display())), "{why}");
        assert!(why.contains("LoadCredential=team-a:"), "{why}");
        // The name that the unit in packaging/systemd gives to a file.
        let why = resolve("keys_team-a").unwrap_err();
        assert!(why.contains("/etc/tollgate/secrets/team-a"), "{why}");
        fs::remove_dir_all(above).unwrap();
    }
}
