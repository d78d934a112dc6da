source_filename = "scale"
target triple = "air64_v26-apple-macosx14.0.0"
@_ZL4half = internal unnamed_addr addrspace(2) global i8 undef, align 1
@_Z4half.MTL_FC_INIT_7_b = internal unnamed_addr addrspace(2) externally_initialized constant i8 undef, section "air.fc_initializer", align 1
@__metal_implicit_fc_pred_0 = internal addrspace(2) global i8 0, align 1
@llvm.global_ctors = appending global [1 x { i32, ptr, ptr }] [{ i32, ptr, ptr } { i32 65535, ptr @_GLOBAL__sub_I_x, ptr null }]
@llvm.compiler.used = appending global [1 x ptr] [ptr addrspacecast (ptr addrspace(2) @__metal_implicit_fc_pred_0 to ptr)], section "llvm.metadata"
declare i8 @air.normalize_function_constant_predicate.i8(i8)
define internal void @_GLOBAL__sub_I_x() section "air.static_init" {
  %1 = load i8, ptr addrspace(2) @_Z4half.MTL_FC_INIT_7_b, align 1
  store i8 %1, ptr addrspace(2) @_ZL4half, align 1
  %2 = tail call i8 @air.normalize_function_constant_predicate.i8(i8 %1)
  store i8 %2, ptr addrspace(2) @__metal_implicit_fc_pred_0, align 1
  ret void
}
define weak_odr void @scale(ptr addrspace(1) noundef "air-buffer-no-alias" %0, ptr addrspace(2) noundef align 4 dereferenceable(4) %1, ptr addrspace(1) noundef %2, <3 x i32> noundef %3) local_unnamed_addr #0 {
  %5 = extractelement <3 x i32> %3, i64 1
  %6 = zext i32 %5 to i64
  %7 = getelementptr inbounds float, ptr addrspace(1) %0, i64 %6
  %8 = load float, ptr addrspace(1) %7, align 4
  %9 = load float, ptr addrspace(2) %1, align 4
  %10 = fmul float %8, %9
  store float %10, ptr addrspace(1) %7, align 4
  %11 = load i8, ptr addrspace(2) @_ZL4half, align 1
  %12 = trunc i8 %11 to i1
  br i1 %12, label %13, label %16
13:
  %14 = fmul float %10, 5.000000e-01
  %15 = getelementptr inbounds float, ptr addrspace(1) %2, i64 %6
  store float %14, ptr addrspace(1) %15, align 4
  br label %16
16:
  ret void
}
attributes #0 = { convergent nounwind "frame-pointer"="all" }
!air.kernel = !{!0}
!air.function_constants = !{!9}
!0 = !{ptr @scale, !1, !2, !8}
!1 = !{}
!2 = !{!3, !4, !5, !7}
!3 = !{i32 0, !"air.buffer", !"air.location_index", i32 2, i32 1, !"air.read_write", !"air.address_space", i32 1, !"air.arg_type_size", i32 4, !"air.arg_type_align_size", i32 4, !"air.arg_type_name", !"float", !"air.arg_name", !"x"}
!4 = !{i32 1, !"air.buffer", !"air.buffer_size", i32 4, !"air.location_index", i32 0, i32 1, !"air.read", !"air.address_space", i32 2, !"air.arg_type_size", i32 4, !"air.arg_type_align_size", i32 4, !"air.arg_type_name", !"float", !"air.arg_name", !"factor"}
!5 = !{i32 2, !"air.function_constant", !6, !"air.buffer", !"air.location_index", i32 3, i32 1, !"air.read_write", !"air.address_space", i32 1, !"air.arg_type_size", i32 4, !"air.arg_type_align_size", i32 4, !"air.arg_type_name", !"float", !"air.arg_name", !"halves"}
!6 = !{ptr addrspace(2) @__metal_implicit_fc_pred_0, !"bool", !"half"}
!7 = !{i32 3, !"air.thread_position_in_grid", !"air.arg_type_name", !"uint3", !"air.arg_name", !"position"}
!8 = !{!"air.max_work_group_size", i32 128}
!9 = !{ptr addrspace(2) @_Z4half.MTL_FC_INIT_7_b, !"bool", !"half", i32 7, i1 true}
