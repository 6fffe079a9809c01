//! Compiles `proto/*.proto` into Rust; protox stands in for protoc, so nothing has to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files =
        protox::compile(["proto/remote_write.proto", "proto/remote_write2.proto", "proto/metrics.proto"], ["proto"])?;
    prost_build::Config::new().compile_fds(files)?;
    Ok(())
}
