//! planewatch collects what happens on the control planes of AWS and Kubernetes, and says when it matters.

pub mod clock;
pub mod disposition;
pub mod json;

pub mod event;
pub mod decode;
pub mod normalize;
