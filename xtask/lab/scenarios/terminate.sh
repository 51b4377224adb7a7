# ended by either side, child and IKE_SA: both sides forget it and nothing passes in the clear
check() {
  local g
  for g in gwa gwb; do
    up; reach hosta 10.2.0.2
    sw $g --terminate --child net >/dev/null; settle 1 0; blocked hosta 10.2.0.2
    up; reach hosta 10.2.0.2
    sw $g --terminate --ike lab >/dev/null; empty; blocked hosta 10.2.0.2
  done
}
