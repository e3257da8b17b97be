//! What only the C library can be told, and the one place that speaks to it past the standard library.

/// Says how names are looked up: by /etc/hosts, then by the servers of /etc/resolv.conf.
///
/// A static glibc would otherwise follow /etc/nsswitch.conf, and load the modules named there, with
/// the C library of the host, into a process that has one of its own. Has to be called before the
/// first lookup, and while there is one thread.
#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
#[expect(unsafe_code, reason = "no crate declares this function of glibc")]
pub(crate) fn pin_name_lookup() {
    use std::ffi::{c_char, c_int};

    unsafe extern "C" {
        /// In <nss.h>, and exported for programs that want exactly this.
        fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
    }
    // SAFETY: both are strings that end with 0 and live forever; glibc reads them only, under a lock
    // of its own. It fails for want of memory or an unknown database, and `hosts` is none.
    let failed = unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) };
    debug_assert_eq!(failed, 0);
}

/// Elsewhere there is nothing to say: musl knows no modules, and a dynamic glibc loads its own.
#[cfg(not(all(target_env = "gnu", target_feature = "crt-static")))]
pub(crate) const fn pin_name_lookup() {}
