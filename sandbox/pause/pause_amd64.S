// The pause process for amd64: see doc.go for what it does. No libc, nothing that is writable but its stack.
#include "pause.h"

	.globl	_start
_start:						// nothing but what is called below, from here on
	mov	$SYS_prctl, %eax
	mov	$PR_SET_SECCOMP, %edi
	mov	$SECCOMP_MODE_FILTER, %esi
	lea	program(%rip), %rdx
	syscall
	test	%eax, %eax
	jnz	fail
	mov	$SYS_rt_sigprocmask, %eax	// blocked signals are queued even for PID 1
	xor	%edi, %edi			// SIG_BLOCK
	lea	signals(%rip), %rsi
	xor	%edx, %edx
	mov	$8, %r10d
	syscall
	mov	$SYS_read, %eax			// held until a byte comes; the end is that of who would have sent it
	xor	%edi, %edi
	lea	-8(%rsp), %rsi
	mov	$1, %edx
	syscall
	cmp	$1, %eax
	jne	fail
	mov	$SYS_close, %eax
	xor	%edi, %edi
	syscall
reap:						// bury children, the adopted ones too
	mov	$SYS_wait4, %eax
	mov	$-1, %rdi
	xor	%esi, %esi
	mov	$WNOHANG, %edx
	xor	%r10d, %r10d
	syscall
	test	%eax, %eax
	jg	reap
wait:
	mov	$SYS_rt_sigtimedwait, %eax
	lea	signals(%rip), %rdi
	xor	%esi, %esi
	xor	%edx, %edx			// for ever
	mov	$8, %r10d
	syscall
	cmp	$SIGCHLD, %eax
	je	reap
	cmp	$SIGTERM, %eax
	je	done
	cmp	$SIGINT, %eax
	jne	wait
done:
	xor	%edi, %edi
	jmp	exit
fail:
	mov	$1, %edi
exit:
	mov	$SYS_exit_group, %eax
	syscall

	.balign	8
signals:
	.quad	SIGNALS
program:
	.short	FILTER_LENGTH, 0, 0, 0
	.quad	filter
filter:
	FILTER
