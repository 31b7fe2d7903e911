// SPDX-License-Identifier: GPL-2.0
/* SUBMIT: a batch of commands, carried out in order, each with its own result. */
#include <linux/nospec.h>
#include <linux/uaccess.h>

#include "kf.h"
#include "trace.h"

#define KF_FLAGS (FLUX_FLAG_ASK_ONLY | FLUX_FLAG_KICK_NOW | FLUX_KF_FLAG_GENERATION)

static bool is_handle(u32 handle)
{
	return handle != FLUX_HANDLE_NONE && handle <= FLUX_MAX_VMS * FLUX_MAX_VCPUS;
}

/* Words that have a meaning whatever is true at the moment. */
static int check(const struct flux_kf_command *cmd)
{
	const u32 both = FLUX_FLAG_ASK_ONLY | FLUX_FLAG_KICK_NOW;
	bool from = is_handle(cmd->from), to = is_handle(cmd->to), known;

	switch (cmd->op) {
	case FLUX_OP_GRANT:
		known = to;
		break;
	case FLUX_OP_PARK:
	case FLUX_OP_FORCE:
	case FLUX_OP_PREEMPT:
		/* What PREEMPT has in `to` is a number like any other. */
		known = from;
		break;
	case FLUX_OP_MOVE:
		known = from && to && cmd->from != cmd->to;
		break;
	case FLUX_OP_HEIR:
		known = to || cmd->to == FLUX_HANDLE_NONE;
		break;
	default:
		known = false;
	}
	if (!known || cmd->flags & ~KF_FLAGS || (cmd->flags & both) == both)
		return -EINVAL;
	if (cmd->deadline_us && (cmd->deadline_us < 100 || cmd->deadline_us > 10000000))
		return -EINVAL;
	if (cmd->reserved[0] || cmd->reserved[1] || cmd->reserved[2] || cmd->reserved[3])
		return -EINVAL;
	return 0;
}

static int carry_out(struct kf_file *file, struct kf_core *c, struct kf_vcpu *to,
		     struct flux_kf_command *cmd)
{
	switch (cmd->op) {
	case FLUX_OP_GRANT:
		return kf_grant(file, c, to, cmd);
	case FLUX_OP_PARK:
	case FLUX_OP_MOVE:
		return kf_request(file, c, to, cmd, &cmd->park_req);
	case FLUX_OP_HEIR:
		return kf_set_heir(file, c, to, cmd);
	case FLUX_OP_PREEMPT:
		return kf_preempt(file, c, cmd);
	default:
		return kf_force_now(file, c, cmd);
	}
}

static int do_command(struct kf_file *file, struct flux_kf_command *cmd)
{
	struct kf_domain *domain = file->domain;
	struct kf_vcpu *to = NULL;
	struct kf_core *c;
	int result = check(cmd);

	cmd->park_req = 0;
	if (result)
		return result;
	if (cmd->core >= domain->cores)
		return -EINVAL;
	c = &domain->core[array_index_nospec(cmd->core, domain->cores)];
	if (cmd->op == FLUX_OP_GRANT || cmd->op == FLUX_OP_MOVE ||
	    (cmd->op == FLUX_OP_HEIR && cmd->to != FLUX_HANDLE_NONE)) {
		to = kf_vcpu_find(domain, cmd->to);
		if (IS_ERR(to)) {
			/* A core that cannot be commanded is the better answer. */
			raw_spin_lock_irq(&c->lock);
			result = kf_core_usable(file, c) ?: PTR_ERR(to);
			raw_spin_unlock_irq(&c->lock);
			return result;
		}
	}
	result = carry_out(file, c, to, cmd);
	if (to)
		kf_vm_put(to->vm);
	return result;
}

static void refused(struct kf_domain *domain, const struct flux_kf_command *cmd, int result)
{
	struct kf_event event = {
		.kind = FLUX_KF_EV_REFUSED,
		.core = min_t(u32, cmd->core, FLUX_CORE_NONE),
		.from = min_t(u32, cmd->from, U16_MAX),
		.to = cmd->op == FLUX_OP_PREEMPT ? 0 : min_t(u32, cmd->to, U16_MAX),
		.arg = -result,
	};

	kf_event(domain, &event);
}

int kf_submit(struct kf_file *file, struct flux_kf_submit *batch)
{
	struct flux_kf_command __user *user = u64_to_user_ptr(batch->commands);
	struct kf_domain *domain = file->domain;
	struct flux_kf_command cmd;
	int result = 0;
	u32 i;

	batch->failed = 0;
	if (READ_ONCE(domain->holder) != file)
		return -ESTALE;
	if (batch->count > FLUX_KF_BATCH_MAX)
		return -EINVAL;
	for (i = 0; i < batch->count; i++, user++) {
		int answer;

		if (copy_from_user(&cmd, user, sizeof(cmd))) {
			result = -EFAULT;
			break;
		}
		answer = do_command(file, &cmd);
		trace_kflux_command(cmd.op, cmd.core, cmd.from, cmd.to, answer);
		if (answer) {
			refused(domain, &cmd, answer);
			batch->failed++;
		}
		if (put_user((u32)answer, &user->result) ||
		    put_user(cmd.park_req, &user->park_req)) {
			/* It has been carried out, and so have those before it. */
			i++;
			result = -EFAULT;
			break;
		}
		cond_resched();
	}
	if (i)
		kf_commands_done(domain, i);
	return result;
}
