//! Keys, secrets and certificates that others take the place of while requests go on.

use std::{
    fs,
    io::Read,
    net::{SocketAddr, TcpListener},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::mpsc,
};

use rustls::version::{TLS12, TLS13};

use crate::{
    https, read_chunks,
    reload::{
        ECHO, ENVIRONMENT, OTHER, addresses, admin, answer_all, chat, chat_with, config, eventually, reloads, status,
    },
    stream,
    support::{KEY, PATIENCE, Tollgate},
};

const SECOND_KEY: &str = "tg-process-test-key-0002";

#[test]
fn a_key_that_is_taken_away_lets_nobody_in_while_its_stream_goes_on() {
    let second = format!("[[keys]]\nname = \"second\"\nkey = \"${{SECOND_KEY}}\"\n{ECHO}");
    let both = config("watch = false", &second);
    let environment = [ENVIRONMENT[0], ENVIRONMENT[1], ("SECOND_KEY", SECOND_KEY)];
    let tollgate = Tollgate::start("key-removed", &["serve"], &both, &environment);
    let (public, at) = addresses(&tollgate);
    assert_eq!((chat(public, "echo"), chat_with(SECOND_KEY, public, "echo")), (200, 200));
    let mut socket = stream(public, 100);
    let mut first = [0; 200];
    socket.read_exact(&mut first).unwrap();

    let first_key = "[[keys]]\nname = \"k\"\nkey = \"${TOLLGATE_KEY}\"\n";
    assert!(both.contains(first_key));
    fs::write(tollgate.folder.join("tollgate.toml"), both.replace(first_key, "")).unwrap();
    assert_eq!(admin(at, "POST", "/reload").0, 200);
    assert_eq!(chat(public, "echo"), 401);
    // The stream was under way all along.
    assert_eq!(status(at)["models"][0]["deployments"][0]["in_flight"], 1);
    assert_eq!(chat_with(SECOND_KEY, public, "echo"), 200);
    assert!(read_chunks(socket).ends_with("data: [DONE]\n\n\r\n0\r\n\r\n"));
}

/// A provider, and what it is sent as `Authorization`.
fn provider() -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (send, authorizations) = mpsc::channel();
    std::thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let send = send.clone();
            std::thread::spawn(move || {
                answer_all(socket, |line| {
                    let _test_is_over = line.strip_prefix("authorization: ").map(|value| send.send(value.to_owned()));
                });
            });
        }
    });
    (address, authorizations)
}

#[test]
fn the_new_key_of_a_provider_goes_out_with_the_next_request() {
    let (address, authorizations) = provider();
    let rest = format!(
        "[providers.far]\nbase_url = \"http://{address}\"\napi_key = {{ file = \"secret\" }}\n\
         [models.far]\ndeployments = [{{ provider = \"far\" }}]\n"
    );
    let toml = config("interval = \"20ms\"", &rest);
    let tollgate = Tollgate::start_with("rotated", &["serve"], &toml, &ENVIRONMENT, &[("secret", "sk-first")]);
    let (public, _) = addresses(&tollgate);
    let secret = tollgate.folder.join("secret");
    let sent = || {
        assert_eq!(chat(public, "far"), 200);
        authorizations.recv_timeout(PATIENCE).unwrap()
    };
    assert_eq!(sent(), "bearer sk-first");
    https::write(&secret, "sk-second");
    tollgate.line_with("the new configuration is in force");
    assert_eq!(sent(), "bearer sk-second");
    fs::remove_file(&secret).unwrap();
    tollgate.line_with("the old one stays in force");
    assert_eq!(sent(), "bearer sk-second");
    https::write(&secret, "sk-third");
    tollgate.line_with("the new configuration is in force");
    assert_eq!(sent(), "bearer sk-third");
    assert!(authorizations.try_recv().is_err(), "more was sent than was asked for");
}

/// A folder as the kubelet mounts one: `..data` leads to what is in force, and every file through it.
struct Mount(PathBuf);

impl Mount {
    fn new(files: &[&str]) -> Self {
        let folder = std::env::temp_dir().join(format!("tollgate-mount-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for file in files {
            symlink(Path::new("..data").join(file), folder.join(file)).unwrap();
        }
        Self(folder)
    }

    /// Puts all files in place at once and removes those that were there before.
    fn put(&self, version: &str, files: &[(&str, &str)]) {
        let folder = self.0.join(version);
        fs::create_dir(&folder).unwrap();
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        let (data, next) = (self.0.join("..data"), self.0.join("..data_tmp"));
        let before = fs::read_link(&data).ok();
        symlink(version, &next).unwrap();
        fs::rename(next, data).unwrap();
        if let Some(before) = before {
            fs::remove_dir_all(self.0.join(before)).unwrap();
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0).is_err();
    }
}

#[test]
fn a_mounted_folder_that_is_swapped_is_read_again() {
    let file = "tollgate.toml";
    let mount = Mount::new(&[file, "key"]);
    let toml = |model: &str| {
        let toml = config("interval = \"20ms\"", model);
        toml.replace("key = \"${TOLLGATE_KEY}\"", "key = { file = \"key\" }")
    };
    mount.put("..2026_01", &[(file, &toml(ECHO)), ("key", KEY)]);
    let path = mount.0.join(file);
    let arguments = ["serve", "--config", path.to_str().unwrap()];
    let tollgate = Tollgate::start("mount", &arguments, "", &ENVIRONMENT);
    let (public, at) = addresses(&tollgate);
    assert_eq!(chat(public, "echo"), 200);
    // Both files change with one swap, then either one alone.
    mount.put("..2026_02", &[(file, &toml(OTHER)), ("key", SECOND_KEY)]);
    eventually("the other model is served", || chat_with(SECOND_KEY, public, "other") == 200);
    assert_eq!((chat(public, "other"), chat_with(SECOND_KEY, public, "echo")), (401, 404));
    mount.put("..2026_03", &[(file, &toml(OTHER)), ("key", KEY)]);
    eventually("the first key is taken again", || chat(public, "other") == 200);
    mount.put("..2026_04", &[(file, &toml(ECHO)), ("key", KEY)]);
    eventually("the first model is served again", || chat(public, "echo") == 200);
    eventually("all are counted", || reloads(at, "applied") == Some(3.0));
    assert_eq!(reloads(at, "rejected"), Some(0.0));
}

#[test]
fn a_certificate_or_key_that_cannot_be_used_leaves_the_old_ones_in_force() {
    let tls = "threads = 1\ntls = { cert = \"cert.pem\", key = \"key.pem\" }\n";
    let toml = config("watch = false", ECHO).replacen("threads = 1\n", tls, 1);
    let folder = std::env::temp_dir().join(format!("tollgate-certificates-{}", std::process::id()));
    let _place = Mount(folder.clone());
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("tollgate.toml");
    fs::write(&file, toml).unwrap();
    let (old, new) = (https::authority(), https::authority());
    https::issue(&old, &folder);
    let arguments = ["serve", "--config", file.to_str().unwrap()];
    let tollgate = Tollgate::start("certificates", &arguments, "", &ENVIRONMENT);
    let (public, at) = addresses(&tollgate);
    let mut open = https::connect(public, &old, &[&TLS13], None);
    https::chat(&mut open, 2).unwrap();

    let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.join(name));
    let mut rejected = 0.0;
    let mut refused = |path: &Path, why: &str| {
        tollgate.signal("HUP");
        let line = tollgate.line_with("the old one stays in force");
        assert!(line.contains(path.to_str().unwrap()) && line.contains(why), "{line}");
        rejected += 1.0;
        assert_eq!(reloads(at, "rejected"), Some(rejected));
        for version in [&TLS12, &TLS13] {
            https::chat(&mut https::connect(public, &old, &[version], None), 2).unwrap();
        }
    };
    https::issue(&new, &folder);
    let aside = folder.join("aside");
    for path in [&cert, &key] {
        fs::rename(path, &aside).unwrap();
        refused(path, "No such file");
        // Nobody can read it as a file, not even root.
        fs::create_dir(path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
        refused(path, "directory");
        fs::remove_dir(path).unwrap();
        symlink("nowhere", path).unwrap();
        refused(path, "No such file");
        fs::write(path.with_extension("empty"), "").unwrap();
        fs::set_permissions(path.with_extension("empty"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(path.with_extension("empty"), path).unwrap();
        refused(path, "PEM");
        fs::rename(&aside, path).unwrap();
    }
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    refused(&key, "chmod 600");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    // What can be used takes over, and the connection of the beginning goes on.
    tollgate.signal("HUP");
    tollgate.line_with("the new configuration is in force");
    https::chat(&mut https::connect(public, &new, &[&TLS13], None), 2).unwrap();
    https::chat(&mut open, 2).unwrap();
}
