//! What only the C library and the allocator can be told, and the one place that speaks to them past the standard
//! library.

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

/// Gives what the allocator keeps of freed memory back to the system.
///
/// glibc gives back what is free at the end of its heap only, and a crowd that leaves rarely leaves that: after 500 idle
/// connections of HTTP/2 it kept 13 MiB for good.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "no crate declares this function of glibc")]
pub(crate) fn give_back_memory() {
    use std::ffi::c_int;

    unsafe extern "C" {
        /// In <malloc.h>.
        fn malloc_trim(pad: usize) -> c_int;
    }
    // SAFETY: takes glibc's own locks and touches nothing that is in use, from any thread at any time.
    let _has_given = unsafe { malloc_trim(0) };
}

/// mimalloc looks at what it could give back when it is asked for memory: not at all while nothing happens.
#[cfg(target_env = "musl")]
#[expect(
    unsafe_code,
    reason = "the crate that we have mimalloc from declares this function for a feature of its own only"
)]
pub(crate) fn give_back_memory() {
    // So that it is linked where it is not the allocator, too: in tests.
    use mimalloc as _;

    unsafe extern "C" {
        /// In <mimalloc.h>.
        fn mi_collect(force: bool);
    }
    // SAFETY: looks at the heap of the thread that calls it and at pages that nobody has, from any thread at any time.
    unsafe { mi_collect(true) };
}

/// Others know best.
#[cfg(not(any(target_env = "gnu", target_env = "musl")))]
pub(crate) const fn give_back_memory() {}
