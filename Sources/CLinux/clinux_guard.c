#define _GNU_SOURCE
#include "clinux_guard.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { most_instructions = 512, most_servers = 8, allow = 0x1000, deny = 0x2000, to_v6 = 0x3000, next = 0x4000 };

/* The program as it grows. A jump's offset holds one of the marks above until its target is known. */
struct program {
  struct bpf_insn code[most_instructions];
  int count;
};

static void add(struct program *program, uint8_t code, uint8_t to, uint8_t from, int offset, int32_t value) {
  if (program->count < most_instructions)
    program->code[program->count++] = (struct bpf_insn){
        .code = code, .dst_reg = to, .src_reg = from, .off = (short)offset, .imm = value};
}

/* Everything that jumps to the mark jumps to here. */
static void here(struct program *program, int mark) {
  for (int index = 0; index < program->count; index++)
    if (BPF_CLASS(program->code[index].code) == BPF_JMP && program->code[index].off == mark)
      program->code[index].off = (short)(program->count - index - 1);
}

/* Reads size bytes of the packet at the offset in r3 to the stack at place; ends with deny where there are none. */
static void load(struct program *program, int place, int size) {
  add(program, BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_1, BPF_REG_6, 0, 0);
  add(program, BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_2, BPF_REG_3, 0, 0);
  add(program, BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_3, BPF_REG_10, 0, 0);
  add(program, BPF_ALU64 | BPF_ADD | BPF_K, BPF_REG_3, 0, 0, place);
  add(program, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_4, 0, 0, size);
  add(program, BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_skb_load_bytes);
  add(program, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_0, 0, deny, 0);
}

static void load_at(struct program *program, int offset, int place, int size) {
  add(program, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_3, 0, 0, offset);
  load(program, place, size);
}

static void take_word(struct program *program, int to, int place) {
  add(program, BPF_LDX | BPF_MEM | BPF_W, (uint8_t)to, BPF_REG_10, place, 0);
}

/* Compares 32 bits without their sign: the constant of a 64-bit comparison would be extended by it. */
static void unless_word(struct program *program, int place, const uint8_t *bytes, int mark) {
  int32_t value;
  memcpy(&value, bytes, 4);
  take_word(program, BPF_REG_1, place);
  add(program, BPF_ALU | BPF_MOV | BPF_K, BPF_REG_2, 0, 0, value);
  add(program, BPF_JMP | BPF_JNE | BPF_X, BPF_REG_1, BPF_REG_2, mark, 0);
}

/* The destination is on the stack at -16; r8 is the transport's number, r9 is where its header begins. */
static void allow_questions(struct program *program, const uint8_t *servers, size_t count, int words) {
  for (size_t index = 0; index < count && index < most_servers; index++) {
    for (int word = 0; word < words; word++)
      unless_word(program, -16 + 4 * word, servers + (index * (size_t)words + (size_t)word) * 4, next);
    /* TCP or UDP: both have the port at the same place. */
    add(program, BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_8, 0, 1, IPPROTO_UDP);
    add(program, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_8, 0, next, IPPROTO_TCP);
    add(program, BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_3, BPF_REG_9, 0, 0);
    add(program, BPF_ALU64 | BPF_ADD | BPF_K, BPF_REG_3, 0, 0, 2);
    load(program, -24, 2);
    add(program, BPF_LDX | BPF_MEM | BPF_H, BPF_REG_1, BPF_REG_10, -24, 0);
    add(program, BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_1, 0, allow, htons(53));
    here(program, next);
  }
}

/* Those of one family, of 4 or 16 bytes. */
static void deny_prefixes(struct program *program, const struct clinux_prefix *prefixes, size_t count, int size) {
  for (size_t index = 0; index < count; index++) {
    const struct clinux_prefix *prefix = &prefixes[index];
    if (prefix->size != size) continue;
    for (int word = 0; word * 32 < prefix->bits; word++) {
      int bits = prefix->bits - word * 32;
      uint32_t value;
      memcpy(&value, prefix->bytes + 4 * word, 4);
      take_word(program, BPF_REG_1, -16 + 4 * word);
      add(program, BPF_ALU | BPF_END | BPF_TO_BE, BPF_REG_1, 0, 0, 32);
      int shift = bits < 32 ? 32 - bits : 0;
      if (shift) add(program, BPF_ALU64 | BPF_RSH | BPF_K, BPF_REG_1, 0, 0, shift);
      /* Without its sign, as above. */
      add(program, BPF_ALU | BPF_MOV | BPF_K, BPF_REG_2, 0, 0, (int32_t)(ntohl(value) >> shift));
      add(program, BPF_JMP | BPF_JNE | BPF_X, BPF_REG_1, BPF_REG_2, next, 0);
    }
    add(program, BPF_JMP | BPF_JA, 0, 0, deny, 0);
    here(program, next);
  }
}

static void deny_what_stays_here(struct program *program) {
  /* LOOPBACK_IFINDEX: it is 1 in every network namespace. */
  add(program, BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_7, 0, deny, 1);
}

int clinux_guard_make(const uint8_t *servers4, size_t count4, const uint8_t *servers6, size_t count6,
                      const struct clinux_prefix *closed, size_t closed_count) {
  struct program program = {.count = 0};
  struct program *p = &program;
  add(p, BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_6, BPF_REG_1, 0, 0);
  add(p, BPF_LDX | BPF_MEM | BPF_W, BPF_REG_7, BPF_REG_6, offsetof(struct __sk_buff, ifindex), 0);
  add(p, BPF_LDX | BPF_MEM | BPF_W, BPF_REG_1, BPF_REG_6, offsetof(struct __sk_buff, protocol), 0);
  add(p, BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_1, 0, to_v6, htons(ETH_P_IPV6));
  add(p, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_1, 0, deny, htons(ETH_P_IP));

  load_at(p, 0, -24, 1);
  add(p, BPF_LDX | BPF_MEM | BPF_B, BPF_REG_9, BPF_REG_10, -24, 0);
  add(p, BPF_ALU64 | BPF_AND | BPF_K, BPF_REG_9, 0, 0, 0xf);
  add(p, BPF_ALU64 | BPF_LSH | BPF_K, BPF_REG_9, 0, 0, 2);
  load_at(p, 9, -24, 1);
  add(p, BPF_LDX | BPF_MEM | BPF_B, BPF_REG_8, BPF_REG_10, -24, 0);
  load_at(p, 16, -16, 4);
  allow_questions(p, servers4, count4, 1);
  deny_what_stays_here(p);
  deny_prefixes(p, closed, closed_count, 4);
  add(p, BPF_JMP | BPF_JA, 0, 0, allow, 0);

  here(p, to_v6);
  load_at(p, 6, -24, 1);
  add(p, BPF_LDX | BPF_MEM | BPF_B, BPF_REG_8, BPF_REG_10, -24, 0);
  add(p, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_9, 0, 0, 40);
  load_at(p, 24, -16, 16);
  allow_questions(p, servers6, count6, 4);
  deny_what_stays_here(p);
  deny_prefixes(p, closed, closed_count, 16);
  add(p, BPF_JMP | BPF_JA, 0, 0, allow, 0);

  here(p, deny);
  add(p, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 0);
  add(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
  here(p, allow);
  add(p, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 1);
  add(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
  if (program.count >= most_instructions) {
    errno = E2BIG;
    return -1;
  }
  union bpf_attr attributes;
  memset(&attributes, 0, sizeof attributes);
  attributes.prog_type = BPF_PROG_TYPE_CGROUP_SKB;
  attributes.expected_attach_type = BPF_CGROUP_INET_EGRESS;
  attributes.insns = (uint64_t)(uintptr_t)program.code;
  attributes.insn_cnt = (uint32_t)program.count;
  attributes.license = (uint64_t)(uintptr_t) "Apache-2.0";
  memcpy(attributes.prog_name, "henge_guard", sizeof "henge_guard");
  return (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attributes, sizeof attributes);
}

int clinux_guard_attach(int group, int program) {
  union bpf_attr attributes;
  memset(&attributes, 0, sizeof attributes);
  attributes.target_fd = (uint32_t)group;
  attributes.attach_bpf_fd = (uint32_t)program;
  attributes.attach_type = BPF_CGROUP_INET_EGRESS;
  attributes.attach_flags = BPF_F_ALLOW_MULTI;
  return (int)syscall(SYS_bpf, BPF_PROG_ATTACH, &attributes, sizeof attributes);
}
