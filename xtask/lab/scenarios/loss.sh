# every second IKE datagram of the one side and every third of the other is lost from the first on: retransmissions carry both exchanges of the start
DAEMON="retransmit_timeout = 0.4"
check() {
  lose 'numgen inc mod 2 == 0' 'numgen inc mod 3 == 0'; up; lost
  settle 1 1; reach hosta 10.2.0.2; reach hostb 10.1.0.2
}
