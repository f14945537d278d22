// Linux's numbers for the pause process.
#define AT_FDCWD   -100
#define O_RDWR     02
#define O_NONBLOCK 04000
#define O_CLOEXEC  02000000
#define WNOHANG    1
#define SIGINT     2
#define SIGTERM    15
#define SIGCHLD    17
#define SIGNALS    ((1 << (SIGINT - 1)) | (1 << (SIGTERM - 1)) | (1 << (SIGCHLD - 1)))

#if defined(__x86_64__)
#define SYS_rt_sigprocmask  14
#define SYS_wait4           61
#define SYS_rt_sigtimedwait 128
#define SYS_exit_group      231
#define SYS_openat          257
#elif defined(__aarch64__)
#define SYS_openat          56
#define SYS_exit_group      94
#define SYS_rt_sigprocmask  135
#define SYS_rt_sigtimedwait 137
#define SYS_wait4           260
#endif
