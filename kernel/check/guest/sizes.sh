# From 1 GiB to 2 TiB, emulated in a machine of 1 GiB.
. /lib.sh
played size.1g size 1 ""
played size.64g size 64 ""
played size.2t size 2048 ""
