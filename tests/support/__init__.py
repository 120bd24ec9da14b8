"""What tests share: namespaces, programs, captures, a kernel in QEMU."""
