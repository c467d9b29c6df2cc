// Answers the lines of inputs.ts with javax.crypto: run as `java Peer.java`, lines on stdin.
import java.io.*;
import java.math.BigInteger;
import java.security.*;
import java.security.spec.*;
import java.util.*;
import javax.crypto.*;
import javax.crypto.spec.*;

public class Peer {
  static byte[] bytes(String hex) {
    return hex.equals("-") ? new byte[0] : HexFormat.of().parseHex(hex);
  }

  static String hex(byte[] bytes) {
    return HexFormat.of().withUpperCase().formatHex(bytes);
  }

  static byte[] last(byte[] data, int count) {
    return Arrays.copyOfRange(data, data.length - count, data.length);
  }

  static byte[] xor(byte[] a, byte[] b) {
    byte[] out = a.clone();
    for (int i = 0; i < out.length; i++) out[i] ^= b[i];
    return out;
  }

  static byte[] crypt(int mode, String transformation, byte[] key, byte[] data, boolean iv) throws Exception {
    String algorithm = transformation.substring(0, transformation.indexOf('/'));
    byte[] k = algorithm.equals("DESede") && key.length == 16 ? Arrays.copyOf(key, 24) : key;
    if (k != key) System.arraycopy(key, 0, k, 16, 8);
    Cipher cipher = Cipher.getInstance(transformation);
    SecretKeySpec spec = new SecretKeySpec(k, algorithm);
    if (iv) cipher.init(mode, spec, new IvParameterSpec(new byte[algorithm.equals("AES") ? 16 : 8]));
    else cipher.init(mode, spec);
    return cipher.doFinal(data);
  }

  static byte[] padded(byte[] message, String method) {
    int front = method.equals("3") ? 8 : 0;
    int body = message.length + (method.equals("2") ? 1 : 0);
    byte[] out = new byte[front + Math.max(1, (body + 7) / 8) * 8];
    if (front > 0) {
      int bits = message.length * 8;
      for (int i = 0; i < 4; i++) out[7 - i] = (byte) (bits >>> (8 * i));
    }
    System.arraycopy(message, 0, out, front, message.length);
    if (method.equals("2")) out[message.length] = (byte) 0x80;
    return out;
  }

  static byte[] pinBlock(String pin, String pan) {
    String field = "0" + Integer.toHexString(pin.length()) + pin + "F".repeat(14 - pin.length());
    String digits = "0".repeat(12) + pan.substring(0, pan.length() - 1);
    return xor(bytes(field), bytes("0000" + digits.substring(digits.length() - 12)));
  }

  // NIST SP 800-38B, 6.1 and 6.2.
  static byte[] cmac(String cipher, byte[] key, byte[] message) throws Exception {
    String algorithm = cipher.equals("aes") ? "AES" : "DESede";
    int size = cipher.equals("aes") ? 16 : 8;
    BigInteger mask = BigInteger.ONE.shiftLeft(8 * size).subtract(BigInteger.ONE);
    BigInteger rb = BigInteger.valueOf(size == 16 ? 0x87 : 0x1b);
    BigInteger sub = new BigInteger(1, crypt(1, algorithm + "/ECB/NoPadding", key, new byte[size], false));
    boolean whole = message.length > 0 && message.length % size == 0;
    for (int i = 0; i < (whole ? 1 : 2); i++) {
      boolean carry = sub.testBit(8 * size - 1);
      sub = sub.shiftLeft(1).and(mask);
      if (carry) sub = sub.xor(rb);
    }
    byte[] subkey = new byte[size];
    byte[] raw = sub.toByteArray();
    for (int i = 0; i < size && i < raw.length; i++) subkey[size - 1 - i] = raw[raw.length - 1 - i];
    byte[] data = Arrays.copyOf(message, whole ? message.length : (message.length / size + 1) * size);
    if (!whole) data[message.length] = (byte) 0x80;
    for (int i = 0; i < size; i++) data[data.length - size + i] ^= subkey[i];
    return last(crypt(1, algorithm + "/CBC/NoPadding", key, data, true), size);
  }

  static byte[] retail(byte[] key, byte[] data) throws Exception {
    byte[] k1 = Arrays.copyOf(key, 8), k2 = Arrays.copyOfRange(key, 8, 16);
    byte[] chain = last(crypt(1, "DES/CBC/NoPadding", k1, data, true), 8);
    return crypt(1, "DES/ECB/NoPadding", k1, crypt(2, "DES/ECB/NoPadding", k2, chain, false), false);
  }

  static ECParameterSpec curve() throws Exception {
    AlgorithmParameters parameters = AlgorithmParameters.getInstance("EC");
    parameters.init(new ECGenParameterSpec("secp256r1"));
    return parameters.getParameterSpec(ECParameterSpec.class);
  }

  static PublicKey point(String hex) throws Exception {
    BigInteger x = new BigInteger(hex.substring(2, 66), 16), y = new BigInteger(hex.substring(66), 16);
    return KeyFactory.getInstance("EC").generatePublic(new ECPublicKeySpec(new ECPoint(x, y), curve()));
  }

  static byte[] derive(String scalar, String peer, byte[] info) throws Exception {
    KeyAgreement agreement = KeyAgreement.getInstance("ECDH");
    agreement.init(KeyFactory.getInstance("EC").generatePrivate(new ECPrivateKeySpec(new BigInteger(scalar, 16), curve())));
    agreement.doPhase(point(peer), true);
    MessageDigest hash = MessageDigest.getInstance("SHA-256");
    hash.update(new byte[] {0, 0, 0, 1});
    hash.update(agreement.generateSecret());
    return hash.digest(info);
  }

  static String verify(String key, byte[] message, byte[] signature) throws Exception {
    Signature verifier = Signature.getInstance("SHA256withECDSAinP1363Format");
    verifier.initVerify(point(key));
    verifier.update(message);
    return verifier.verify(signature) ? "01" : "00";
  }

  static String answer(String[] w) throws Exception {
    switch (w[0]) {
      case "pinblock": return hex(crypt(1, "DESede/ECB/NoPadding", bytes(w[1]), pinBlock(w[2], w[3]), false));
      case "alg1": return hex(last(crypt(1, "DESede/CBC/NoPadding", bytes(w[1]), padded(bytes(w[3]), w[2]), true), 8));
      case "alg3": return hex(retail(bytes(w[1]), padded(bytes(w[3]), w[2])));
      case "cmac": return hex(cmac(w[1], bytes(w[2]), bytes(w[3])));
      case "kcv":
        return w[1].equals("tdea")
            ? hex(crypt(1, "DESede/ECB/NoPadding", bytes(w[2]), new byte[8], false)).substring(0, 6)
            : hex(cmac("aes", bytes(w[2]), new byte[16])).substring(0, 10);
      case "kdf": return hex(derive(w[1], w[2], bytes(w[3])));
      case "es256": return verify(w[1], bytes(w[2]), bytes(w[3]));
      default: throw new IllegalArgumentException(w[0]);
    }
  }

  public static void main(String[] arguments) throws Exception {
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
    StringBuilder out = new StringBuilder();
    for (String line = in.readLine(); line != null; line = in.readLine()) out.append(answer(line.split(" "))).append('\n');
    System.out.print(out);
  }
}
