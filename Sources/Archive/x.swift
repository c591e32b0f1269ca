import CLinux
// x
