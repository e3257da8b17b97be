/* Copying and comparing memory, for static builds with musl on x86-64.
 *
 * musl copies with `rep movs`, which takes some thirty cycles to begin, and compares byte by byte. A
 * request makes some hundred copies of a few dozen bytes, so that cost a tenth of all its time. What is
 * here does what the other C library does with the vectors that every x86-64 has (SSE2): pieces of up to
 * 128 bytes are loaded whole before anything is stored, from both ends, so that they may overlap.
 *
 * Built by build.rs for that target only; tests/memory.rs builds it with SELF_TEST and runs it. */

#include <emmintrin.h>
#include <stddef.h>
#include <stdint.h>

#ifdef SELF_TEST
#define memcpy tollgate_memcpy
#define memmove tollgate_memmove
#define memcmp tollgate_memcmp
#define bcmp tollgate_bcmp
#endif

/* From here on the processor's own loop is faster where nothing overlaps. */
#define REP_MIN 4096

typedef __m128i vec;

static inline vec load(const unsigned char *at) { return _mm_loadu_si128((const vec *)at); }
static inline void store(unsigned char *at, vec value) { _mm_storeu_si128((vec *)at, value); }

/* Pieces of one type from both ends; the compiler makes plain loads and stores of them. */
#define BOTH_ENDS(type)                                                                            \
    do {                                                                                           \
        type first, last;                                                                          \
        __builtin_memcpy(&first, s, sizeof(type));                                                 \
        __builtin_memcpy(&last, s + n - sizeof(type), sizeof(type));                               \
        __builtin_memcpy(d, &first, sizeof(type));                                                 \
        __builtin_memcpy(d + n - sizeof(type), &last, sizeof(type));                               \
        return to;                                                                                 \
    } while (0)

static void *copy_long(void *to, unsigned char *d, const unsigned char *s, size_t n) {
    vec a = load(s), b = load(s + 16), c = load(s + 32), e = load(s + 48);
    const unsigned char *t = s + n - 64;
    vec v = load(t), w = load(t + 16), x = load(t + 32), y = load(t + 48);
    if ((size_t)(d - s) >= n) {
        /* Forwards, also over what has been read: the end was loaded before. */
        if (n >= REP_MIN && (size_t)(s - d) >= n) {
            void *rd = d;
            const void *rs = s;
            size_t left = n;
            __asm__ volatile("rep movsb" : "+D"(rd), "+S"(rs), "+c"(left) : : "memory");
            return to;
        }
        size_t at = 64;
        if (n > 128) {
            /* The second block is read before the first is written: they may overlap. */
            vec p = load(s + 64), q = load(s + 80), r = load(s + 96), u = load(s + 112);
            for (;;) {
                store(d + at - 64, a), store(d + at - 48, b), store(d + at - 32, c), store(d + at - 16, e);
                a = p, b = q, c = r, e = u;
                at += 64;
                if (at + 64 >= n) break;
                p = load(s + at), q = load(s + at + 16), r = load(s + at + 32), u = load(s + at + 48);
            }
        }
        store(d + at - 64, a), store(d + at - 48, b), store(d + at - 32, c), store(d + at - 16, e);
    } else {
        /* Backwards; the beginning was loaded before. */
        vec p = v, q = w, r = x, u = y;
        size_t end = n;
        while (end > 128) {
            const unsigned char *next = s + end - 128;
            vec i = load(next), j = load(next + 16), k = load(next + 32), l = load(next + 48);
            store(d + end - 64, p), store(d + end - 48, q), store(d + end - 32, r), store(d + end - 16, u);
            p = i, q = j, r = k, u = l;
            end -= 64;
        }
        store(d + end - 64, p), store(d + end - 48, q), store(d + end - 32, r), store(d + end - 16, u);
        store(d, a), store(d + 16, b), store(d + 32, c), store(d + 48, e);
        return to;
    }
    unsigned char *f = d + n - 64;
    store(f, v), store(f + 16, w), store(f + 32, x), store(f + 48, y);
    return to;
}

void *memmove(void *to, const void *from, size_t n) {
    unsigned char *d = to;
    const unsigned char *s = from;
    if (n <= 16) {
        if (n >= 8) BOTH_ENDS(uint64_t);
        if (n >= 4) BOTH_ENDS(uint32_t);
        if (n >= 2) BOTH_ENDS(uint16_t);
        if (n) *d = *s;
        return to;
    }
    if (n <= 32) {
        vec a = load(s), b = load(s + n - 16);
        store(d, a), store(d + n - 16, b);
        return to;
    }
    if (n <= 64) {
        vec a = load(s), b = load(s + 16), c = load(s + n - 32), e = load(s + n - 16);
        store(d, a), store(d + 16, b), store(d + n - 32, c), store(d + n - 16, e);
        return to;
    }
    return copy_long(to, d, s, n);
}

void *memcpy(void *restrict to, const void *restrict from, size_t n) { return memmove(to, from, n); }

static inline int order(const unsigned char *a, const unsigned char *b, unsigned differing) {
    unsigned at = (unsigned)__builtin_ctz(differing);
    return (int)a[at] - (int)b[at];
}

int memcmp(const void *left, const void *right, size_t n) {
    const unsigned char *a = left, *b = right;
    if (n < 16) {
        uint64_t x = 0, y = 0;
        if (n >= 8) {
            __builtin_memcpy(&x, a, 8), __builtin_memcpy(&y, b, 8);
            if (x == y) __builtin_memcpy(&x, a + n - 8, 8), __builtin_memcpy(&y, b + n - 8, 8);
        } else if (n >= 4) {
            uint32_t p, q, r, s;
            __builtin_memcpy(&p, a, 4), __builtin_memcpy(&q, b, 4);
            __builtin_memcpy(&r, a + n - 4, 4), __builtin_memcpy(&s, b + n - 4, 4);
            if (p == q) p = r, q = s;
            x = p, y = q;
            x <<= 32, y <<= 32;
        } else {
            for (size_t at = 0; at < n; at++)
                if (a[at] != b[at]) return (int)a[at] - (int)b[at];
            return 0;
        }
        x = __builtin_bswap64(x), y = __builtin_bswap64(y);
        if (n < 8) return (uint32_t)x == (uint32_t)y ? 0 : (uint32_t)x < (uint32_t)y ? -1 : 1;
        return x == y ? 0 : x < y ? -1 : 1;
    }
    size_t at = 0;
    for (; at + 16 <= n; at += 16) {
        unsigned equal = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(load(a + at), load(b + at)));
        if (equal != 0xffff) return order(a + at, b + at, ~equal & 0xffff);
    }
    if (at == n) return 0;
    at = n - 16;
    unsigned equal = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(load(a + at), load(b + at)));
    return equal == 0xffff ? 0 : order(a + at, b + at, ~equal & 0xffff);
}

int bcmp(const void *left, const void *right, size_t n) { return memcmp(left, right, n); }

#ifdef SELF_TEST
#include <stdio.h>

enum { ROOM = 3 * REP_MIN };

static int same_sign(int a, int b) { return (a < 0) == (b < 0) && (a > 0) == (b > 0); }

static int plain_compare(const unsigned char *a, const unsigned char *b, size_t n) {
    for (size_t at = 0; at < n; at++)
        if (a[at] != b[at]) return (int)a[at] - (int)b[at];
    return 0;
}

/* Every byte is looked at: what had to be copied, and what had to be left alone. */
static int check_copy(size_t n, size_t from, size_t to) {
    static unsigned char before[ROOM], after[ROOM];
    for (size_t at = 0; at < ROOM; at++) before[at] = after[at] = (unsigned char)(at * 167 + at / 251);
    if (memmove(after + to, after + from, n) != after + to) return 1;
    for (size_t at = 0; at < ROOM; at++) {
        unsigned char expected = at >= to && at < to + n ? before[at - to + from] : before[at];
        if (after[at] != expected) return 1;
    }
    return 0;
}

int main(void) {
    static const int shifts[] = {0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 48, 63, 64, 65, 100, 127, 128, 129, 200, 400, 1000};
    long checks = 0;
    for (size_t n = 0; n <= 700; n++)
        for (size_t which = 0; which < sizeof shifts / sizeof *shifts; which++) {
            size_t base = 1024 + n % 5, shift = (size_t)shifts[which];
            if (check_copy(n, base, base + shift) || check_copy(n, base + shift, base)) {
                printf("memmove of %zu bytes by %zu\n", n, shift);
                return 1;
            }
            checks += 2;
        }
    for (size_t n = REP_MIN - 70; n <= REP_MIN + 70; n += 7)
        for (size_t shift = 0; shift <= n + 300; shift += 1 + shift / 3) {
            if (check_copy(n, 64, 64 + shift) || check_copy(n, 64 + shift, 64)) {
                printf("memmove of %zu bytes by %zu\n", n, shift);
                return 1;
            }
            checks += 2;
        }
    static unsigned char a[300], b[300];
    for (size_t n = 0; n < 200; n++)
        for (size_t at = 0; at <= n; at++)
            for (int delta = -1; delta <= 1; delta++) {
                for (size_t i = 0; i < 300; i++) a[i] = b[i] = (unsigned char)(i * 89 + 3);
                b[at] = (unsigned char)(b[at] + delta * 130);
                /* Behind the first difference another one, the other way round. */
                if (at + 1 < n) b[at + 1] = (unsigned char)(b[at + 1] - delta * 77);
                if (!same_sign(memcmp(a, b, n), plain_compare(a, b, n)) || !same_sign(bcmp(a, b, n), plain_compare(a, b, n))) {
                    printf("memcmp of %zu bytes that differ at %zu\n", n, at);
                    return 1;
                }
                checks++;
            }
    printf("%ld checks\n", checks);
    return 0;
}
#endif
