//! What test programs in folders of their own share with those that are single files.

pub(crate) mod capture;
pub(crate) mod exporter;
pub(crate) mod grpc;
pub(crate) mod receiver;
pub(crate) mod tls;
