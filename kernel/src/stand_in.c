// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Stand-ins for the kernel's functions that change the RMP: without SNP those only fail, and these
 * return what the test wants. And one function by whose name a kernel with RMPOPT of its own is known.
 * In C, because Rust's compiler makes no functions that can be followed.
 */
#include <linux/compiler.h>
#include <linux/types.h>

extern int RMPOPT_STAND_IN_RESULT;

int rmpopt_stand_in_shared(u64 page, u64 a, u32 b, u32 c, bool d);
int rmpopt_stand_in_private(u64 page, u64 a, u32 b, u32 c, bool d);
int rmpopt_stand_in_psmash(u64 page, u64 a, u32 b, u32 c, bool d);

noinline int rmpopt_stand_in_shared(u64 page, u64 a, u32 b, u32 c, bool d)
{
	return READ_ONCE(RMPOPT_STAND_IN_RESULT);
}

noinline int rmpopt_stand_in_private(u64 page, u64 a, u32 b, u32 c, bool d)
{
	return READ_ONCE(RMPOPT_STAND_IN_RESULT);
}

noinline int rmpopt_stand_in_psmash(u64 page, u64 a, u32 b, u32 c, bool d)
{
	return READ_ONCE(RMPOPT_STAND_IN_RESULT);
}

void rmpopt_work_handler(void *work);

noinline void rmpopt_work_handler(void *work)
{
	barrier();
}
