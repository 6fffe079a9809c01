//! What an application seals with the gateway's key, and its opening.
//!
//! An application gets the public key as X.509 `SubjectPublicKeyInfo` (DER) and sends `metadata | data`: an AES key of its own,
//! wrapped by RSA-OAEP with SHA-256 and a mask of SHA-1 (Java's `OAEPWithSHA-256AndMGF1Padding`), and the text in a Snappy block,
//! in AES-ECB with PKCS #7 padding (Java's `AES`). One whose key is the word [`PLAINTEXT`] sends that word and the text itself.
//!
//! There is one key a process: making one takes a quarter of a second, opening a message 2 ms. Decryption is blinded.

use super::frame::Content;
use crate::wire::compression::Encoding;
use aes::cipher::{Array, BlockCipherDecrypt, KeyInit};
use aes::{Aes128, Aes192, Aes256};
use bytes::Bytes;
use rsa::pkcs8::EncodePublicKey;
use rsa::rand_core::OsRng;
use rsa::sha2::Sha256;
use rsa::{Oaep, RsaPrivateKey, RsaPublicKey};
use sha1::Sha1;

/// What stands in the place of a key where nothing is encrypted.
pub(super) const PLAINTEXT: &[u8] = b"plaintext";
/// As prometheus-rsocket-proxy has it on Java 17.
const KEY_BITS: usize = 2048;

/// The key pair of this process.
pub(super) struct Key {
    private: RsaPrivateKey,
    public: Bytes,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<key>")
    }
}

/// No key could be made: the machine gives no random numbers.
#[derive(Debug, thiserror::Error)]
#[error("no RSA key could be made: {0}")]
pub(super) struct KeyError(String);

/// A message that was not sealed for this gateway.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum OpenError {
    #[error("expected an AES key wrapped with the gateway's public key, found {0} bytes that are none")]
    Wrapping(usize),
    #[error("expected an AES key of 16, 24 or 32 bytes, found {0}")]
    KeyLength(usize),
    #[error("expected whole blocks of AES, found {0} bytes")]
    Blocks(usize),
    #[error("expected PKCS #7 padding, found none: the text and its key do not belong together")]
    Padding,
}

impl Key {
    /// Makes one; for a thread that may block.
    pub(super) fn generate() -> Result<Self, KeyError> {
        let private = RsaPrivateKey::new(&mut OsRng, KEY_BITS).map_err(|error| KeyError(error.to_string()))?;
        Self::of(private)
    }

    fn of(private: RsaPrivateKey) -> Result<Self, KeyError> {
        let public = RsaPublicKey::from(&private).to_public_key_der().map_err(|error| KeyError(error.to_string()))?;
        Ok(Self { private, public: Bytes::copy_from_slice(public.as_bytes()) })
    }

    /// The public key, as applications get it.
    pub(super) fn public(&self) -> &Bytes {
        &self.public
    }

    /// Opens a message: text exposition, compressed or as it is. For a thread that may block.
    pub(super) fn open(&self, content: Content) -> Result<(Vec<u8>, Encoding), OpenError> {
        let Content { metadata, mut data } = content;
        if metadata == PLAINTEXT {
            return Ok((data, Encoding::Identity));
        }
        let padding = Oaep::new_with_mgf_hash::<Sha256, Sha1>();
        let opened = self.private.decrypt_blinded(&mut OsRng, padding, &metadata);
        let key = opened.map_err(|_| OpenError::Wrapping(metadata.len()))?;
        match key.len() {
            16 => decrypt::<Aes128>(&key, &mut data),
            24 => decrypt::<Aes192>(&key, &mut data),
            32 => decrypt::<Aes256>(&key, &mut data),
            other => Err(OpenError::KeyLength(other)),
        }?;
        Ok((data, Encoding::Snappy))
    }
}

/// Decrypts where it is, and cuts the padding off.
fn decrypt<C: BlockCipherDecrypt + KeyInit>(key: &[u8], data: &mut Vec<u8>) -> Result<(), OpenError> {
    let cipher = C::new_from_slice(key).map_err(|_| OpenError::KeyLength(key.len()))?;
    let length = data.len();
    let (blocks, []) = Array::slice_as_chunks_mut(data) else { return Err(OpenError::Blocks(length)) };
    cipher.decrypt_blocks(blocks);
    let padding = usize::from(*data.last().ok_or(OpenError::Blocks(0))?);
    let end = data.len().checked_sub(padding).filter(|_| (1..=16).contains(&padding)).ok_or(OpenError::Padding)?;
    if data[end..].iter().any(|byte| usize::from(*byte) != padding) {
        return Err(OpenError::Padding);
    }
    data.truncate(end);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use aes::cipher::BlockCipherEncrypt;
    use rsa::pkcs8::DecodePrivateKey;
    use std::path::Path;

    /// What the JDK made, with its private key; it lies beside the repository.
    fn recording(name: &str) -> Option<Vec<u8>> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures/micrometer").join(name);
        std::fs::read(path).inspect_err(|_| println!("skipped: the recording {name} is not there")).ok()
    }

    fn of_java() -> Option<(Key, Content)> {
        let private = RsaPrivateKey::from_pkcs8_der(&recording("jt_priv.der")?).unwrap();
        let content = Content { metadata: recording("jt_meta.bin")?, data: recording("jt_data.bin")? };
        Some((Key::of(private).unwrap(), content))
    }

    /// Seals data that is whole blocks with its padding.
    fn seal(key: &Key, aes: &[u8], data: &[u8]) -> Content {
        let padding = Oaep::new_with_mgf_hash::<Sha256, Sha1>();
        let metadata = RsaPublicKey::from(&key.private).encrypt(&mut OsRng, padding, aes).unwrap();
        let mut data = data.to_vec();
        let mut with = |cipher: &dyn Fn(&mut Array<u8, aes::cipher::consts::U16>)| {
            data.chunks_exact_mut(16).for_each(|block| cipher(block.try_into().unwrap()));
        };
        match aes.len() {
            16 => with(&|block| Aes128::new_from_slice(aes).unwrap().encrypt_block(block)),
            32 => with(&|block| Aes256::new_from_slice(aes).unwrap().encrypt_block(block)),
            _ => {}
        }
        Content { metadata, data }
    }

    #[test]
    fn opens_what_java_sealed() {
        let Some((key, content)) = of_java() else { return };
        let opened = key.open(content).unwrap();
        assert_eq!(opened, (b"hello metrics world 0123456789".to_vec(), Encoding::Snappy));
    }

    #[test]
    fn gives_its_public_key_as_java_does() {
        let Some((key, _)) = of_java() else { return };
        assert_eq!(key.public().len(), 294);
        assert_eq!(key.public()[..15], *b"\x30\x82\x01\x22\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01");
    }

    #[test]
    fn takes_plain_text_for_what_it_says() {
        let Some((key, _)) = of_java() else { return };
        let content = Content { metadata: PLAINTEXT.to_vec(), data: b"a 1\n".to_vec() };
        assert_eq!(key.open(content), Ok((b"a 1\n".to_vec(), Encoding::Identity)));
    }

    #[test]
    fn says_what_is_wrong_with_what_it_cannot_open() {
        let Some((key, good)) = of_java() else { return };
        let of = |metadata: &[u8], data: &[u8]| Content { metadata: metadata.to_vec(), data: data.to_vec() };
        let mut flipped = good.metadata.clone();
        flipped[100] ^= 1;
        let cases = [
            (of(b"", &good.data), OpenError::Wrapping(0)),
            (of(&flipped, &good.data), OpenError::Wrapping(256)),
            (of(&[0xff; 256], &good.data), OpenError::Wrapping(256)),
            (of(&good.metadata, b""), OpenError::Blocks(0)),
            (of(&good.metadata, &good.data[1..]), OpenError::Blocks(good.data.len() - 1)),
            (of(&good.metadata, &good.data[..16]), OpenError::Padding),
            (seal(&key, &[7; 20], &[16; 16]), OpenError::KeyLength(20)),
            (seal(&key, &[7; 16], &[0; 16]), OpenError::Padding),
            (seal(&key, &[7; 16], &[17; 16]), OpenError::Padding),
            (seal(&key, &[7; 16], b"fifteen bytes, \x02"), OpenError::Padding),
        ];
        for (content, expected) in cases {
            assert_eq!(key.open(content), Err(expected));
        }
        let longer = seal(&key, &[7; 32], b"twelve bytes\x04\x04\x04\x04");
        assert_eq!(key.open(longer), Ok((b"twelve bytes".to_vec(), Encoding::Snappy)));
    }
}
