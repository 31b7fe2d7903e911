/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracepoints for every transition: /sys/kernel/tracing/events/kflux. vCPUs are handles, as in
 * the contract: slot * 16 + vCPU + 1.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM kflux

#if !defined(KF_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define KF_TRACE_H

#include <linux/tracepoint.h>

#ifndef KF_TRACE_NAMES
#define KF_TRACE_NAMES
/* FLUX_VCPU_*, FLUX_HOST_* and FLUX_OP_*, which a format file cannot name otherwise. */
#define kf_state_names							\
	{ 0, "NEW" }, { 1, "PARKED" }, { 2, "GRANTING" }, { 3, "RUNNING" }, \
	{ 4, "CEDING" }, { 5, "BLOCKED" }, { 6, "UNMANAGED" }, { 7, "DEAD" }
#define kf_host_names { 0, "on" }, { 1, "preempted" }, { 2, "blocked" }
#define kf_op_names							\
	{ 1, "GRANT" }, { 2, "PARK" }, { 3, "MOVE" }, { 4, "HEIR" }, { 5, "FORCE" }, \
	{ 6, "PREEMPT" }
#endif

/* A vCPU's state and core. */
TRACE_EVENT(kflux_state,
	TP_PROTO(u32 vcpu, u32 from, u32 to, u32 core),
	TP_ARGS(vcpu, from, to, core),
	TP_STRUCT__entry(
		__field(u32, vcpu)
		__field(u32, from)
		__field(u32, to)
		__field(u32, core)
	),
	TP_fast_assign(
		__entry->vcpu = vcpu;
		__entry->from = from;
		__entry->to = to;
		__entry->core = core;
	),
	TP_printk("vcpu=%u from=%s to=%s core=%u", __entry->vcpu,
		  __print_symbolic(__entry->from, kf_state_names),
		  __print_symbolic(__entry->to, kf_state_names), __entry->core)
);

/* A core's word. */
TRACE_EVENT(kflux_core,
	TP_PROTO(u32 core, u32 owner, u32 successor, u32 generation, const char *why),
	TP_ARGS(core, owner, successor, generation, why),
	TP_STRUCT__entry(
		__field(u32, core)
		__field(u32, owner)
		__field(u32, successor)
		__field(u32, generation)
		__array(char, why, 16)
	),
	TP_fast_assign(
		__entry->core = core;
		__entry->owner = owner;
		__entry->successor = successor;
		__entry->generation = generation;
		strscpy(__entry->why, why, sizeof(__entry->why));
	),
	TP_printk("core=%u owner=%u successor=%u generation=%u why=%s", __entry->core,
		  __entry->owner, __entry->successor, __entry->generation, __entry->why)
);

/* The owner of a core is kicked. */
TRACE_EVENT(kflux_kick,
	TP_PROTO(u32 core, u32 vcpu, u32 park_req),
	TP_ARGS(core, vcpu, park_req),
	TP_STRUCT__entry(
		__field(u32, core)
		__field(u32, vcpu)
		__field(u32, park_req)
	),
	TP_fast_assign(
		__entry->core = core;
		__entry->vcpu = vcpu;
		__entry->park_req = park_req;
	),
	TP_printk("core=%u vcpu=%u park_req=%u", __entry->core, __entry->vcpu,
		  __entry->park_req)
);

/* A park is forced; what the host did with the thread at that moment. */
TRACE_EVENT(kflux_force,
	TP_PROTO(u32 core, u32 vcpu, u32 park_req, u32 host),
	TP_ARGS(core, vcpu, park_req, host),
	TP_STRUCT__entry(
		__field(u32, core)
		__field(u32, vcpu)
		__field(u32, park_req)
		__field(u32, host)
	),
	TP_fast_assign(
		__entry->core = core;
		__entry->vcpu = vcpu;
		__entry->park_req = park_req;
		__entry->host = host;
	),
	TP_printk("core=%u vcpu=%u park_req=%u host=%s", __entry->core, __entry->vcpu,
		  __entry->park_req, __print_symbolic(__entry->host, kf_host_names))
);

/* A context is held by KVM while its vCPU is parked. */
TRACE_EVENT(kflux_held,
	TP_PROTO(u32 vcpu, bool critical),
	TP_ARGS(vcpu, critical),
	TP_STRUCT__entry(
		__field(u32, vcpu)
		__field(bool, critical)
	),
	TP_fast_assign(
		__entry->vcpu = vcpu;
		__entry->critical = critical;
	),
	TP_printk("vcpu=%u critical=%d", __entry->vcpu, __entry->critical)
);

/* The uThread of a core's owner is to give way; `switches` names it. */
TRACE_EVENT(kflux_preempt,
	TP_PROTO(u32 core, u32 vcpu, u32 switches),
	TP_ARGS(core, vcpu, switches),
	TP_STRUCT__entry(
		__field(u32, core)
		__field(u32, vcpu)
		__field(u32, switches)
	),
	TP_fast_assign(
		__entry->core = core;
		__entry->vcpu = vcpu;
		__entry->switches = switches;
	),
	TP_printk("core=%u vcpu=%u switches=%u", __entry->core, __entry->vcpu,
		  __entry->switches)
);

/* RUN has seen it: it comes back to the VMM, or leaves it to the guest if that is critical. */
TRACE_EVENT(kflux_preempted,
	TP_PROTO(u32 vcpu, u32 switches, bool critical),
	TP_ARGS(vcpu, switches, critical),
	TP_STRUCT__entry(
		__field(u32, vcpu)
		__field(u32, switches)
		__field(bool, critical)
	),
	TP_fast_assign(
		__entry->vcpu = vcpu;
		__entry->switches = switches;
		__entry->critical = critical;
	),
	TP_printk("vcpu=%u switches=%u critical=%d", __entry->vcpu, __entry->switches,
		  __entry->critical)
);

/* A lease begins or ends. */
TRACE_EVENT(kflux_lease,
	TP_PROTO(u32 domain, u32 epoch, bool begins),
	TP_ARGS(domain, epoch, begins),
	TP_STRUCT__entry(
		__field(u32, domain)
		__field(u32, epoch)
		__field(bool, begins)
	),
	TP_fast_assign(
		__entry->domain = domain;
		__entry->epoch = epoch;
		__entry->begins = begins;
	),
	TP_printk("domain=%u epoch=%u %s", __entry->domain, __entry->epoch,
		  __entry->begins ? "begins" : "ends")
);

/* A command and its result. */
TRACE_EVENT(kflux_command,
	TP_PROTO(u32 op, u32 core, u32 from, u32 to, int result),
	TP_ARGS(op, core, from, to, result),
	TP_STRUCT__entry(
		__field(u32, op)
		__field(u32, core)
		__field(u32, from)
		__field(u32, to)
		__field(int, result)
	),
	TP_fast_assign(
		__entry->op = op;
		__entry->core = core;
		__entry->from = from;
		__entry->to = to;
		__entry->result = result;
	),
	TP_printk("op=%s core=%u from=%u to=%u result=%d",
		  __print_symbolic(__entry->op, kf_op_names), __entry->core,
		  __entry->from, __entry->to, __entry->result)
);

#endif

/* This part must be outside of the guard. */
#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
