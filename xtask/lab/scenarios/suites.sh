# other suites in one go: each pair of proposals comes up, carries traffic and survives a rekeying of both SAs
DAEMON="delete_rekeyed_delay = 1"
suites='aes256gcm16-prfsha384-ecp384 aes256gcm16-ecp384
aes192gcm16-prfsha512-ecp521 aes192gcm16-ecp521
aes128-sha256-ecp256 aes128-sha256-ecp256
aes256-sha512-modp3072 aes256-sha512-modp3072
aes128gcm16-prfsha256-modp4096 chacha20poly1305-modp2048
aes256-sha384-x25519 aes256-sha384'
check() {
  local ike esp g
  while read -r ike esp <&3; do
    for g in gwa gwb; do
      sed -i "s/^    proposals = .*/    proposals = $ike/; s/esp_proposals = .*/esp_proposals = $esp/" "$DIR/$g/swanctl/swanctl.conf"
      sw $g --load-all >/dev/null || fail "$g does not load $ike $esp"
    done
    up; reach hosta 10.2.0.2; rekey gwa --child net; rekey gwb --ike lab; settle 1 1; reach hosta 10.2.0.2
    sw gwa --terminate --ike lab >/dev/null; empty
  done 3<<<"$suites"
}
